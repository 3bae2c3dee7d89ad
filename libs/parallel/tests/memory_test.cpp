// SPDX-License-Identifier: Apache-2.0
// The closed forms of docs/parallelism against an allocator's count.
//
// One rank has no rows, so that activations take no memory: what is left are parameters, gradients and
// buffers.
#include <gtest/gtest.h>

#include <algorithm>

#include "chain_model.h"
#include "toy_run.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/ops/allocation_count.h"

namespace veomni::parallel {
namespace {

using namespace toy;

constexpr int kLinks = 5;
constexpr int64_t kBlock = 64;  // what an allocator may round a tensor up by

/// Elements of one unit: all, kept by rank `rank`, kept with padding (a chunk), gathered.
struct Numels {
  int64_t all = 0, local = 0, chunk = 0, gathered = 0;
};

struct MemoryCase {
  const char* strategy;
  int ranks, dp_replicate;
  int64_t width;
  torch::ScalarType dtype;
  int accumulation;

  int shards() const {
    const std::string word = strategy;
    return word == "ddp" || word == "replicate" ? 1 : ranks / dp_replicate;
  }
  bool flat() const { return std::string(strategy) == "fsdp1"; }
};

/// From the definitions alone: a parameter's rows, or all parameters end to end at multiples of 64
/// bytes.
Numels numels_of(const MemoryCase& c, const std::vector<std::vector<int64_t>>& shapes, int rank) {
  Numels n;
  const int S = c.shards();
  const int64_t step = kBlock / static_cast<int64_t>(c10::elementSize(c.dtype));
  std::vector<std::pair<int64_t, int64_t>> ranges;
  int64_t end = 0;
  for (const auto& shape : shapes) {
    const int64_t numel = io::num_elements(shape);
    n.all += numel;
    if (c.flat()) {
      const int64_t begin = (end + step - 1) / step * step;
      ranges.emplace_back(begin, end = begin + numel);
      continue;
    }
    const int64_t row = numel / shape[0], rows = (shape[0] + S - 1) / S;
    n.chunk += rows * row;
    n.local += row * std::clamp<int64_t>(shape[0] - rows * rank, 0, rows);
  }
  if (c.flat()) {
    n.chunk = (end + S - 1) / S;
    for (const auto& [begin, stop] : ranges)
      n.local += std::max<int64_t>(
          0, std::min(stop, n.chunk * (rank + 1)) - std::max(begin, n.chunk * rank));
  }
  n.gathered = S == 1 ? 0 : n.chunk * S;
  return n;
}

class Memory : public testing::TestWithParam<MemoryCase> {};

TEST_P(Memory, IsTheClosedForm) {
  const MemoryCase c = GetParam();
  const std::string strategy = c.strategy;
  const int64_t D = c.width, w = c10::elementSize(nn::wide_dtype(c.dtype)),
                narrow = c10::elementSize(c.dtype), masters = narrow == w ? 0 : w;
  const int empty_rank = c.ranks - 1;
  run_ranks(c.ranks, [&](Communicator& world) {
    Chain chain(D, kLinks, {.device = torch::kMeta, .dtype = c.dtype});
    DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = c.dp_replicate});
    ParallelOptions options;
    options.defaults.strategy = c.strategy;
    // One link fills a bucket.
    options.defaults.bucket_mib = static_cast<double>((2 * D + 1) * D * w) / (1 << 20);
    const auto parallel = parallelize(chain, mesh, options);
    const int shard_rank = world.rank() % c.shards();
    const Numels link = numels_of(c, {{D, D}, {D}, {D, D}}, shard_rank),
                 root = numels_of(c, {{D}}, shard_rank);
    const int64_t tensors = (3 * kLinks + 1) * 8;
    const auto expect_bytes = [&](int64_t got, int64_t want, const char* what) {
      if (world.rank() != empty_rank) return;
      EXPECT_NEAR(static_cast<double>(got), static_cast<double>(want), kBlock * tensors) << what;
    };

    ops::AllocationCounter count(ops::AllocationCounter::Scope::kThread);
    nn::materialize(chain, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(chain, 3);
    expect_bytes(count.stats(c10::kCPU).live_bytes,
                 (kLinks * link.local + root.local) * (narrow + masters), "parts at rest");

    const auto x = torch::ones({world.rank() == empty_rank ? 0 : 2, D}, torch::dtype(c.dtype));
    const auto step = [&] {
      for (int micro = 0; micro < c.accumulation; ++micro) {
        std::unique_ptr<DeferGradientSync> defer;
        if (micro + 1 < c.accumulation) defer = std::make_unique<DeferGradientSync>(parallel.state);
        chain.loss(x).backward();
      }
    };
    step();  // learns the order of gathers
    for (auto& [path, parameter] : chain.named_parameters()) parameter.clear_grad();
    count.reset();
    step();
    expect_bytes(count.stats(c10::kCPU).live_bytes, (kLinks * link.chunk + root.chunk) * w,
                 "gradients");

    const int64_t gathered = root.gathered + 2 * link.gathered;
    EXPECT_EQ(stats_of(*parallel.state).peak_gathered_bytes, gathered * narrow);
    int64_t peak = 0;
    if (strategy == "replicate") {
      // A later micro-batch's gradient of one matrix, before it is added.
      peak = (kLinks * link.all + root.all + (c.accumulation > 1 ? D * D : 0)) * w;
    } else if (strategy == "ddp") {
      peak = ((kLinks + 1) * link.all + root.all) * w;
    } else {
      // The last but one link in backward: root, itself and one ahead gathered; its own full gradients;
      // the link before on its way, full and its sum; what is stored: links before that, or all where
      // earlier micro-batches were here.
      const int64_t stored =
          c.accumulation == 1 ? (kLinks - 3) * link.chunk : kLinks * link.chunk + root.chunk;
      peak = gathered * narrow + (link.all + link.gathered + link.chunk + stored) * w;
    }
    if (narrow == w) expect_bytes(count.stats(c10::kCPU).peak_bytes, peak, "peak of a step");
  });
}

std::string word_of(const MemoryCase& c) {
  return std::string(c.strategy) + "_ranks" + std::to_string(c.ranks) + "_replicas" +
         std::to_string(c.dp_replicate) + "_width" + std::to_string(c.width) + "_" +
         c10::toString(c.dtype) + "_accumulation" + std::to_string(c.accumulation);
}
void PrintTo(const MemoryCase& c, std::ostream* out) { *out << word_of(c); }

std::vector<MemoryCase> all_cases() {
  std::vector<MemoryCase> cases;
  const std::vector<std::pair<const char*, int>> strategies = {
      {"fsdp2", 1}, {"fsdp1", 1}, {"hsdp", 2}, {"fsdp1", 2}, {"ddp", 1}, {"replicate", 1}};
  for (const auto& [strategy, replicas] : strategies) {
    for (int ranks : {2, 4}) {
      if (ranks == replicas) continue;
      for (int64_t width : {96, 97}) {  // by rows without padding and with
        for (int accumulation : {1, 2})
          cases.push_back({strategy, ranks, replicas, width, torch::kFloat, accumulation});
      }
      cases.push_back({strategy, ranks, replicas, 97, torch::kBFloat16, 1});
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Chain, Memory, testing::ValuesIn(all_cases()),
                         [](const auto& info) { return word_of(info.param); });

}  // namespace
}  // namespace veomni::parallel
