// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/world.h"

#include <cstdlib>
#include <string>

#include "veomni/base/error.h"
#include "veomni/comm/local.h"
#include "veomni/comm/rank_scope.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::train {

namespace {

// Variables by which launchers say how many processes there are.
constexpr const char* kWorldSizeVariables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                               "SLURM_STEP_NUM_TASKS", "WORLD_SIZE"};

void refuse_launchers() {
  for (const char* name : kWorldSizeVariables) {
    const char* value = std::getenv(name);
    if (!value || std::string(value) == "1" || std::string(value).empty()) continue;
    throw_config_error(
        std::string("started as one of ") + value + " processes (" + name +
        "), but this build has no backend that talks between processes (built: local). "
        "Run one process with --comm.backend=local");
  }
}

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

}  // namespace

void run_world(const MeshOptions& options, const CommOptions& comm,
               const std::function<void(DeviceMesh&)>& body) {
  const MeshShape shape = shape_of(options);
  const int world = shape.dp_replicate * std::max(1, shape.dp_shard);
  refuse_launchers();
  VEOMNI_CHECK_CONFIG(
      comm.backend == "local" || world == 1, "the recipe's mesh asks for ", world,
      " ranks, this is one process. Set comm.backend: local to run them as threads of it");
  const auto run = [&](std::shared_ptr<Communicator> communicator) {
    DeviceMesh mesh(std::move(communicator), shape);
    body(mesh);
  };
  if (world == 1) {
    run(make_single_communicator());
    return;
  }
  const auto timeout = std::chrono::milliseconds(static_cast<int64_t>(comm.timeout_s * 1000));
  run_ranks(world,
            [&](Communicator& communicator) {
              // The caller owns it for longer than this function runs.
              run(std::shared_ptr<Communicator>(std::shared_ptr<void>(), &communicator));
            },
            {.timeout = timeout});
}

}  // namespace veomni::train
