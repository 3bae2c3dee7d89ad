// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/simulated.h"

#include <atomic>
#include <cstring>
#include <mutex>

#include "call_communicator.h"
#include "lane.h"
#include "reduce.h"

namespace veomni {

namespace {

struct Simulation {
  SimulatedOptions options;
  std::vector<SimulatedCall> calls;
  std::mutex mutex;  ///< reason
  std::atomic<bool> aborted{false};
  std::string reason;
};

class DoneWork final : public Work {
 public:
  explicit DoneWork(std::shared_ptr<Simulation> simulation) : simulation_(std::move(simulation)) {}
  void wait(std::chrono::milliseconds) override {
    if (done_) return;
    if (simulation_->aborted) throw AbortedError("the job was aborted: " + simulation_->reason);
    done_ = true;
  }

 private:
  std::shared_ptr<Simulation> simulation_;
  bool done_ = false;
};

void clear(const torch::Tensor& tensor) {
  if (tensor.nbytes()) std::memset(tensor.data_ptr(), 0, tensor.nbytes());
}

int64_t total_bytes(const std::vector<torch::Tensor>& tensors) {
  int64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

int64_t sent_bytes(const Call& call, int rank, int64_t size) {
  const int64_t in = total_bytes(call.ins);
  switch (call.operation) {
    case Operation::kAllReduce: return 2 * in * (size - 1) / size;
    case Operation::kAllGather: return in * (size - 1);
    case Operation::kReduceScatter: return in * (size - 1) / size;
    case Operation::kAllToAll: return in - call.in_splits[rank] * row_bytes(call.ins[0]);
    case Operation::kBroadcast: return call.root == rank && size > 1 ? in : 0;
    case Operation::kBarrier:
    case Operation::kSplit: return 0;
  }
  return 0;
}

/// As though every other rank held zeros.
void execute(const Call& call, int rank, int size) {
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto& in = call.ins[i];
    const auto& out = call.outs[i];
    if (!in.is_cpu() || !out.is_cpu() || call.operation == Operation::kBroadcast) continue;
    // In place, this rank's block is inside what is cleared.
    const auto own = in.clone();
    const auto bytes = static_cast<int64_t>(own.nbytes());
    if (call.operation != Operation::kAllReduce) clear(out);
    if (call.operation == Operation::kAllGather) {
      copy_bytes(bytes_at(out, rank * bytes), own.data_ptr(), bytes);
    } else if (call.operation == Operation::kAllToAll) {
      const int64_t row = row_bytes(own);
      const int64_t rows = std::min(call.in_splits[rank], call.out_splits[rank]);
      copy_bytes(bytes_at(out, sum_before(call.out_splits, rank) * row),
                 bytes_at(own, sum_before(call.in_splits, rank) * row), rows * row);
    } else {
      const int64_t block = call.operation == Operation::kReduceScatter ? rank * bytes / size : 0;
      reduce_buffers(out.data_ptr(), out.scalar_type(), {bytes_at(own, block)}, own.scalar_type(),
                     out.numel(), call.reduce);
    }
  }
}

class SimulatedCommunicator final : public CallCommunicator {
 public:
  SimulatedCommunicator(std::shared_ptr<Simulation> simulation, std::string name, int rank,
                        int size)
      : simulation_(std::move(simulation)), name_(std::move(name)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  std::chrono::milliseconds timeout() const override { return std::chrono::minutes(10); }

  std::shared_ptr<Communicator> split(int color, const std::string& name) override {
    start({.operation = Operation::kSplit, .color = color});
    for (const auto& group : simulation_->options.groups) {
      if (group.name == name)
        return std::make_shared<SimulatedCommunicator>(simulation_, name, group.rank, group.size);
    }
    return std::make_shared<SimulatedCommunicator>(simulation_, name, 0, 1);
  }

  void abort(const std::string& reason) override {
    std::lock_guard lock(simulation_->mutex);
    if (simulation_->aborted) return;
    simulation_->reason = reason.empty() ? "aborted" : reason;
    simulation_->aborted = true;
  }

  const Simulation& simulation() const { return *simulation_; }

 private:
  WorkPtr start(Call call) override {
    if (simulation_->aborted) throw AbortedError("the job was aborted: " + simulation_->reason);
    if (const auto problem = problem_of(call, size_, false); !problem.empty())
      throw_error(detail::concat(describe(call), " on '", name_, "': ", problem));
    simulation_->calls.push_back({.operation = name_of(call.operation),
                                  .group = name_,
                                  .group_size = size_,
                                  .in_bytes = total_bytes(call.ins),
                                  .out_bytes = total_bytes(call.outs),
                                  .sent_bytes = sent_bytes(call, rank_, size_)});
    execute(call, rank_, size_);
    return std::make_unique<DoneWork>(simulation_);
  }

  std::shared_ptr<Simulation> simulation_;
  std::string name_;
  int rank_, size_;
};

}  // namespace

std::shared_ptr<Communicator> make_simulated_world(const SimulatedOptions& options) {
  VEOMNI_CHECK(options.size >= 1 && options.rank >= 0 && options.rank < options.size,
               "a simulated job cannot have rank ", options.rank, " of ", options.size);
  auto simulation = std::make_shared<Simulation>();
  simulation->options = options;
  return std::make_shared<SimulatedCommunicator>(simulation, "world", options.rank, options.size);
}

SimulatedOptions simulated_mesh(const MeshShape& shape, int rank) {
  const struct {
    const char* name;
    int size, coordinate;
  } axes[] = {{"dp_replicate", shape.dp_replicate, rank / shape.sp / shape.dp_shard},
              {"dp_shard", shape.dp_shard, rank / shape.sp % shape.dp_shard},
              {"sp", shape.sp, rank % shape.sp}};
  SimulatedOptions options{.rank = rank, .size = shape.dp_replicate * shape.dp_shard * shape.sp};
  for (int chosen = 1; chosen < 8; ++chosen) {
    SimulatedOptions::Group group;
    for (int a = 0; a < 3; ++a) {
      if (!(chosen >> a & 1)) continue;
      group.name += (group.name.empty() ? "" : "_") + std::string(axes[a].name);
      group.rank = group.rank * axes[a].size + axes[a].coordinate;
      group.size *= axes[a].size;
    }
    options.groups.push_back(group);
  }
  return options;
}

const std::vector<SimulatedCall>& simulated_calls(const Communicator& comm) {
  const auto* simulated = dynamic_cast<const SimulatedCommunicator*>(&comm);
  VEOMNI_CHECK(simulated, "communicator '", comm.name(), "' is not of backend simulated");
  return simulated->simulation().calls;
}

}  // namespace veomni
