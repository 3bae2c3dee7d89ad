// SPDX-License-Identifier: Apache-2.0
// What a tensor costs with either allocator: one made and freed at a time, and a step's worth of them.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/CPUAllocator.h>

#include <vector>

#include "veomni/ops/caching_allocator.h"

namespace veomni::ops {
namespace {

c10::Allocator& allocator_of(bool caching) {
  return caching ? caching_allocator() : *c10::GetDefaultCPUAllocator();
}

void one_at_a_time(benchmark::State& state, bool caching) {
  c10::Allocator& allocator = allocator_of(caching);
  const auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(allocator.allocate(bytes).get());
}

// 200 blocks are alive, and the oldest goes for each new one.
void many_alive(benchmark::State& state, bool caching) {
  c10::Allocator& allocator = allocator_of(caching);
  const auto bytes = static_cast<size_t>(state.range(0));
  std::vector<c10::DataPtr> alive(200);
  size_t i = 0;
  const auto replace = [&] {
    alive[i % 200] = allocator.allocate(bytes + 64 * (i % 7));
    ++i;
  };
  while (i < 1000) replace();  // the first touch of a page is not what is measured
  for (auto _ : state) replace();
}

BENCHMARK_CAPTURE(one_at_a_time, system, false)
    ->RangeMultiplier(16)
    ->Range(64, 4 << 20)
    ->ThreadRange(1, 2);
BENCHMARK_CAPTURE(one_at_a_time, caching, true)
    ->RangeMultiplier(16)
    ->Range(64, 4 << 20)
    ->ThreadRange(1, 2);
BENCHMARK_CAPTURE(many_alive, system, false)
    ->RangeMultiplier(16)
    ->Range(64, 1 << 20)
    ->ThreadRange(1, 2);
BENCHMARK_CAPTURE(many_alive, caching, true)
    ->RangeMultiplier(16)
    ->Range(64, 1 << 20)
    ->ThreadRange(1, 2);

}  // namespace
}  // namespace veomni::ops
