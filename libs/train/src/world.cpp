// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/world.h"

#include <algorithm>
#include <string>

#include "agreement.h"
#include "veomni/base/error.h"
#include "veomni/comm/launch.h"
#include "veomni/comm/local.h"
#include "veomni/comm/run_launched.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::train {

namespace {

MeshShape shape_of(const MeshOptions& mesh) {
  VEOMNI_CHECK_CONFIG(mesh.sp == 1, "mesh.sp=", mesh.sp,
                      ": sequence parallelism is not in this build; set it to 1");
  VEOMNI_CHECK_CONFIG(mesh.ep == 1, "mesh.ep=", mesh.ep,
                      ": expert parallelism is not in this build; set it to 1");
  MeshShape shape;
  shape.dp_replicate = static_cast<int>(mesh.dp_replicate);
  shape.dp_shard = static_cast<int>(mesh.dp_shard);
  return shape;
}

// Ranks of one process: threads, or this thread alone.
void run_alone(const WorldOptions& options, const MeshShape& shape,
               const std::function<void(DeviceMesh&)>& body) {
  const int world = shape.dp_replicate * std::max(1, shape.dp_shard);
  const bool local = options.comm.backend == "local";
  VEOMNI_CHECK_CONFIG(local || world == 1, "the recipe's mesh asks for ", world,
                      " ranks, this is one process: start `veomni launch -n ", world,
                      " ...`, or set comm.backend: local to run them as threads of it");
  VEOMNI_CHECK_CONFIG(local || options.comm.backend == "auto",
                      "comm.backend: ", options.comm.backend,
                      " needs ranks as processes: start with `veomni launch -n N ...` or mpirun");
  const auto run = [&](std::shared_ptr<Communicator> communicator) {
    DeviceMesh mesh(std::move(communicator), shape);
    body(mesh);
  };
  if (world == 1) return run(make_single_communicator());
  run_ranks(world,
            [&](Communicator& communicator) {
              // The caller owns it for longer than this function runs.
              run(std::shared_ptr<Communicator>(std::shared_ptr<void>(), &communicator));
            },
            {.timeout = options.comm.timeout()});
}

}  // namespace

void run_world(const WorldOptions& options, const std::function<void(DeviceMesh&)>& body) {
  const MeshShape shape = shape_of(options.mesh);
  const Launch launch = detect_launch(process_environment);
  if (launch.kind == Launch::Kind::kAlone || launch.size == 1)
    return run_alone(options, shape, body);
  resolve_mesh(shape, launch.size);  // refuses what does not fit before the ranks meet
  run_launched(launch,
               {.backend = options.comm.backend,
                .timeout = options.comm.timeout(),
                .flight_directory = options.flight_directory},
               [&](std::shared_ptr<Communicator> world) {
                 check_agreement(*world, options.job);
                 DeviceMesh mesh(std::move(world), shape);
                 body(mesh);
               });
}

}  // namespace veomni::train
