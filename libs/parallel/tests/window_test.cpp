// SPDX-License-Identifier: Apache-2.0
// What is sent lies in the communicator's window, where it has one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "forwarding_communicator.h"
#include "toy_run.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::parallel {
namespace {

using namespace toy;

/// Ordinary memory that knows which addresses are its own.
class KnownAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(c10::kCPU)};
    void* memory = ::operator new(bytes, std::align_val_t(64));
    std::lock_guard lock(mutex_);
    sizes_[memory] = bytes;
    return {memory, memory, &forget, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
  static bool holds(const void* address) {
    std::lock_guard lock(mutex_);
    auto next = sizes_.upper_bound(address);
    if (next == sizes_.begin()) return false;
    --next;
    return static_cast<const char*>(address) < static_cast<const char*>(next->first) + next->second;
  }
  static size_t live() {
    std::lock_guard lock(mutex_);
    return sizes_.size();
  }

 private:
  static void forget(void* memory) {
    {
      std::lock_guard lock(mutex_);
      sizes_.erase(memory);
    }
    ::operator delete(memory, std::align_val_t(64));
  }
  static inline std::mutex mutex_;
  static inline std::map<const void*, size_t> sizes_;
};

/// Inputs of a rank's calls, in the window and elsewhere.
struct Tally {
  int gathered_inside = 0, gathered_outside = 0, summed_inside = 0, summed_outside = 0;
};

class WindowedCommunicator final : public ForwardingCommunicator {
 public:
  WindowedCommunicator(std::shared_ptr<Communicator> inner, c10::Allocator& window, Tally& tally)
      : ForwardingCommunicator(std::move(inner)), window_(window), tally_(tally) {}

  c10::Allocator* window_allocator() override { return &window_; }

  WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) override {
    if (size() > 1 && in.numel())
      ++(KnownAllocator::holds(in.data_ptr()) ? tally_.summed_inside : tally_.summed_outside);
    return inner().all_reduce(std::move(out), std::move(in), op);
  }
  WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                               std::vector<torch::Tensor> ins) override {
    for (const auto& in : ins) {
      if (in.numel())
        ++(KnownAllocator::holds(in.data_ptr()) ? tally_.gathered_inside : tally_.gathered_outside);
    }
    return inner().all_gather_coalesced(std::move(outs), std::move(ins));
  }
  WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs, std::vector<torch::Tensor> ins,
                                   ReduceOp op) override {
    for (const auto& in : ins) {
      if (in.numel())
        ++(KnownAllocator::holds(in.data_ptr()) ? tally_.summed_inside : tally_.summed_outside);
    }
    return inner().reduce_scatter_coalesced(std::move(outs), std::move(ins), op);
  }
  std::shared_ptr<Communicator> split(int color, const std::string& name) override {
    return std::make_shared<WindowedCommunicator>(inner().split(color, name), window_, tally_);
  }

 private:
  c10::Allocator& window_;
  Tally& tally_;
};

/// Trains two micro-batches, whose gradients must be `want`; what rank 0 sent.
Tally run_case(const Case& c, const Gradients& want, double tolerance = 1e-5) {
  static KnownAllocator window;
  Tally of_rank_0;
  run_ranks(c.ranks, [&](Communicator& world) {
    Tally tally;
    auto windowed = std::make_shared<WindowedCommunicator>(world.shared_from_this(), window, tally);
    {
      Spread spread(*windowed, c);
      train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
      if (world.rank() == 0) of_rank_0 = tally;
      Gradients got;
      for (auto& [path, parameter] : spread.model.named_parameters())
        got[path] = full_gradient(parameter, *spread.parallel.group);
      expect_equal(got, want, tolerance, c);
    }
    world.barrier()->wait();
    EXPECT_EQ(KnownAllocator::live(), 0u) << "nothing of the window stays, " << c;
    world.barrier()->wait();
  });
  return of_rank_0;
}

TEST(Window, HoldsWhatIsGatheredAndWhatIsPutTogetherForASum) {
  Case c{.ranks = 2, .dtype = torch::kFloat, .accumulation = 2};
  const auto want = reference(c);
  const auto by_rows = run_case(c, want);
  EXPECT_GT(by_rows.gathered_inside, 0);
  EXPECT_EQ(by_rows.gathered_outside, 0);

  Case narrowed = c;
  narrowed.more.defaults.reduce_dtype = "bfloat16";
  // Half a unit in the last place of bf16 for each of the gradients summed.
  EXPECT_GT(run_case(narrowed, want, std::ldexp(1, -8)).summed_inside, 0);

  c.strategy = "fsdp1";
  const auto flat = run_case(c, want);
  EXPECT_GT(flat.gathered_inside, 0);
  EXPECT_EQ(flat.gathered_outside, 0);
  EXPECT_GT(flat.summed_inside, 0) << "a lone parameter's gradient is sent as backward left it";

  c.strategy = "ddp";
  c.dp_replicate = 2;
  const auto buckets = run_case(c, want);
  EXPECT_GT(buckets.summed_inside, 0);
  EXPECT_EQ(buckets.summed_outside, 0);
}

TEST(Window, IsSharedWithRanksThatHoldShorterParts) {
  Case c{.ranks = 3, .dtype = torch::kFloat, .accumulation = 2};
  const auto tally = run_case(c, reference(c));
  EXPECT_GT(tally.gathered_inside, 0);
  EXPECT_EQ(tally.gathered_outside, 0);
}

}  // namespace
}  // namespace veomni::parallel
