// SPDX-License-Identifier: Apache-2.0
// Forward and backward of the ops that make up a decoder layer, at the shapes of bench/compare. The counter
// "FLOPS" counts multiplications and additions of forward and backward.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include "veomni/ops/attention.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/loss.h"
#include "veomni/ops/norm.h"

namespace {

using benchmark::Counter;
using benchmark::State;

torch::ScalarType dtype_of(const State& state) {
  return state.range(0) == 16 ? torch::kBFloat16 : torch::kFloat;
}

torch::Tensor leaf(torch::IntArrayRef sizes, torch::ScalarType dtype) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  return (torch::randn(sizes, generator) * 0.1).to(dtype).requires_grad_();
}

/// Runs forward and backward until the benchmark has seen enough.
template <typename Forward> void measure(State& state, double flops, const Forward& forward) {
  for (auto _ : state) {
    auto out = forward();
    out.backward(torch::ones_like(out));
  }
  state.counters["FLOPS"] = Counter(flops, Counter::kIsIterationInvariantRate);
}

// T tokens  D in  N out  H query heads  G kv heads  K head dim  V vocabulary
void linear(State& state) {
  const int64_t T = 2048, D = state.range(1), N = state.range(2);
  auto x_TD = leaf({T, D}, dtype_of(state));
  auto weight_ND = leaf({N, D}, dtype_of(state));
  measure(state, 6.0 * T * D * N, [&] { return veomni::ops::linear(x_TD, weight_ND); });
}
BENCHMARK(linear)->Unit(benchmark::kMillisecond)->ArgsProduct({{16, 32}, {512}, {512, 1536}});
BENCHMARK(linear)->Unit(benchmark::kMillisecond)->ArgsProduct({{16, 32}, {1536}, {512}});

void attention(State& state) {
  const int64_t length = state.range(1), T = 2048, H = 8, G = 4, K = 64;
  auto q_THK = leaf({T, H, K}, dtype_of(state));
  auto k_TGK = leaf({T, G, K}, dtype_of(state));
  auto v_TGK = leaf({T, G, K}, dtype_of(state));
  std::vector<int32_t> cu_seqlens;
  for (int64_t at = 0; at <= T; at += length) cu_seqlens.push_back(static_cast<int32_t>(at));
  veomni::ops::AttentionSpec spec{.scale = 0.125};
  // Half of each square is masked; backward recomputes the scores, so seven products in all.
  measure(state, 7.0 * 2 * T * length * H * K / 2, [&] {
    return veomni::ops::varlen_attention(q_THK, k_TGK, v_TGK, cu_seqlens, cu_seqlens, spec).out_THK;
  });
}
BENCHMARK(attention)->Unit(benchmark::kMillisecond)->ArgsProduct({{16, 32}, {128, 1024}});

void rms_norm(State& state) {
  auto x_TD = leaf({2048, 512}, dtype_of(state));
  auto weight_D = leaf({512}, dtype_of(state));
  measure(state, 10.0 * 2048 * 512, [&] { return veomni::ops::rms_norm(x_TD, weight_D, 1e-6); });
}
BENCHMARK(rms_norm)->Unit(benchmark::kMillisecond)->Arg(16)->Arg(32);

void linear_cross_entropy(State& state) {
  const int64_t T = 2048, D = 512, V = 32768;
  auto x_TD = leaf({T, D}, dtype_of(state));
  auto weight_VD = leaf({V, D}, dtype_of(state));
  auto labels_T = torch::arange(T, torch::kLong);
  auto weights_T = torch::full({T}, 1.0 / T, torch::kDouble);
  measure(state, 6.0 * T * D * V, [&] {
    return veomni::ops::linear_cross_entropy(x_TD, weight_VD, labels_T, weights_T).total;
  });
}
BENCHMARK(linear_cross_entropy)->Unit(benchmark::kMillisecond)->Arg(16)->Arg(32);

}  // namespace
