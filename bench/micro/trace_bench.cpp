// SPDX-License-Identifier: Apache-2.0
// What a span of base/trace.h costs, off and on. Off is what every op pays in a run without --profile.
#include <benchmark/benchmark.h>

#include "veomni/base/context.h"
#include "veomni/base/trace.h"

namespace {

using veomni::trace::Category;
using veomni::trace::Span;

void nothing(benchmark::State& state) {
  int x = 0;
  for (auto _ : state) benchmark::DoNotOptimize(x);
}
BENCHMARK(nothing);

void span_off(benchmark::State& state) {
  int x = 0;
  for (auto _ : state) {
    const Span span(Category::kOp, "op", "forward");
    benchmark::DoNotOptimize(x);
  }
}
BENCHMARK(span_off);

void span_on(benchmark::State& state) {
  int x = 0;
  int64_t recorded = 0;
  veomni::trace::start();
  for (auto _ : state) {
    if (++recorded % static_cast<int64_t>(veomni::trace::kCapacity) == 0) {
      state.PauseTiming();
      veomni::trace::take(veomni::thread_context().worker);
      state.ResumeTiming();
    }
    const Span span(Category::kOp, "op", "forward");
    benchmark::DoNotOptimize(x);
  }
  veomni::trace::stop();
}
BENCHMARK(span_on);

}  // namespace
