// SPDX-License-Identifier: Apache-2.0
// Forward and backward of the ops that make up a picture tokenizer, 16 pictures at a time, beside
// what ATen takes for the same. Arguments: dtype (16: bfloat16, 32: float32), height and width,
// channels, and 1 for ATen.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include "veomni/ops/conv.h"
#include "veomni/ops/group_norm.h"
#include "veomni/ops/vq.h"

namespace {

using benchmark::Counter;
using benchmark::State;

torch::ScalarType dtype_of(const State& state) {
  return state.range(0) == 16 ? torch::kBFloat16 : torch::kFloat;
}

torch::Tensor leaf(torch::IntArrayRef sizes, torch::ScalarType dtype) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  auto x = (torch::randn(sizes, generator) * 0.1).to(dtype).requires_grad_();
  x.set_grad_dtype(torch::kFloat);
  return x;
}

template <typename Forward>
void measure(State& state, const std::vector<torch::Tensor>& inputs, double flops,
             const Forward& forward) {
  const auto cotangent = torch::ones_like(forward());
  for (auto _ : state) {
    torch::autograd::grad({forward()}, inputs, {cotangent});
  }
  state.counters["FLOPS"] = Counter(flops, Counter::kIsIterationInvariantRate);
}

// N pictures  H height and width  C channels
void conv2d(State& state) {
  const int64_t N = 16, H = state.range(1), C = state.range(2);
  auto x_NHWC = leaf({N, H, H, C}, dtype_of(state));
  auto weight_OCKK = leaf({C, C, 3, 3}, dtype_of(state));
  auto bias_O = leaf({C}, dtype_of(state));
  const bool aten = state.range(3) == 1;
  measure(state, {x_NHWC, weight_OCKK, bias_O}, 6.0 * 9 * N * H * H * C * C, [&] {
    if (!aten) return veomni::ops::conv2d(x_NHWC, weight_OCKK, bias_O, {1, 1, 1, 1, 1, 1});
    return at::conv2d(x_NHWC.permute({0, 3, 1, 2}), weight_OCKK, bias_O, 1, 1)
        .permute({0, 2, 3, 1});
  });
}
BENCHMARK(conv2d)->Unit(benchmark::kMillisecond)->ArgsProduct({{16, 32}, {28}, {32}, {0, 1}});
BENCHMARK(conv2d)->Unit(benchmark::kMillisecond)->ArgsProduct({{16, 32}, {14}, {64}, {0, 1}});
BENCHMARK(conv2d)->Unit(benchmark::kMillisecond)->ArgsProduct({{16, 32}, {7}, {128}, {0, 1}});

void group_norm_silu(State& state) {
  const int64_t N = 16, H = state.range(1), C = state.range(2);
  auto x_NHWC = leaf({N, H, H, C}, dtype_of(state));
  auto weight_C = leaf({C}, dtype_of(state)), bias_C = leaf({C}, dtype_of(state));
  const bool aten = state.range(3) == 1;
  measure(state, {x_NHWC, weight_C, bias_C}, 30.0 * N * H * H * C, [&] {
    if (!aten) return veomni::ops::group_norm(x_NHWC, weight_C, bias_C, 32, 1e-6, true);
    const auto x_NCHW = x_NHWC.permute({0, 3, 1, 2});
    return at::silu(at::group_norm(x_NCHW, 32, weight_C, bias_C, 1e-6)).permute({0, 2, 3, 1});
  });
}
BENCHMARK(group_norm_silu)
    ->Unit(benchmark::kMillisecond)
    ->ArgsProduct({{16, 32}, {28}, {32}, {0, 1}});
BENCHMARK(group_norm_silu)
    ->Unit(benchmark::kMillisecond)
    ->ArgsProduct({{16, 32}, {14}, {64}, {0, 1}});

// ATen's way is the whole table of distances, by expanded products. Third argument: codes.
void nearest_code(State& state) {
  const int64_t R = 16 * state.range(1) * state.range(1), C = state.range(2), E = 8;
  const auto x_RE = leaf({R, E}, dtype_of(state)).detach();
  const auto codebook_CE = leaf({C, E}, dtype_of(state)).detach();
  for (auto _ : state) {
    benchmark::DoNotOptimize(state.range(3) == 0 ? veomni::ops::nearest_code(x_RE, codebook_CE)
                                                 : at::cdist(x_RE, codebook_CE).argmin(1));
  }
  state.counters["FLOPS"] = Counter(3.0 * R * C * E, Counter::kIsIterationInvariantRate);
}
BENCHMARK(nearest_code)->Unit(benchmark::kMillisecond)->ArgsProduct({{32}, {7}, {16384}, {0, 1}});

}  // namespace
