// SPDX-License-Identifier: Apache-2.0
// The rate of given matrix products by themselves, by our ops and by ATen:
//
//   gemm_rate bfloat16|float32 < LINES        each line `m n k times`: y [m, n] = x [m, k] · weight [n, k]ᵀ
//
// Each shape is measured forward and for both gradients (the weight's in float32 here, in the dtype in ATen). Prints JSON:
// GFLOP/s of all products together, weighted by `times`, from the shortest of several measurements of each.
#include <fmt/format.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <string>

#include "gemm.h"

namespace {

using veomni::ops::matmul_nn, veomni::ops::matmul_nt, veomni::ops::matmul_tn;

/// Seconds of one call: the least of measurements over a quarter of a second, at least three.
double seconds_of(const std::function<void()>& call) {
  using clock = std::chrono::steady_clock;
  call();
  double best = 1e30, spent = 0;
  for (int i = 0; i < 3 || spent < 0.25; ++i) {
    const auto begin = clock::now();
    call();
    const double taken = std::chrono::duration<double>(clock::now() - begin).count();
    best = std::min(best, taken);
    spent += taken;
  }
  return best;
}

struct Seconds {
  double ours = 0, aten = 0;
};

Seconds measure(int64_t m, int64_t n, int64_t k, torch::ScalarType dtype) {
  const auto x_MK = torch::rand({m, k}).sub_(0.5).to(dtype),
             weight_NK = torch::rand({n, k}).sub_(0.5).to(dtype);
  auto y_MN = torch::empty({m, n}, dtype), dx_MK = torch::empty({m, k}, dtype);
  auto dweight_NK = torch::empty({n, k}, torch::kFloat),
       dweight_aten_NK = torch::empty({n, k}, dtype);
  Seconds s;
  s.ours = seconds_of([&] { matmul_nt(y_MN, x_MK, weight_NK); }) +
           seconds_of([&] { matmul_nn(dx_MK, y_MN, weight_NK); }) +
           seconds_of([&] { matmul_tn(dweight_NK, y_MN, x_MK, false); });
  s.aten = seconds_of([&] { at::mm_out(y_MN, x_MK, weight_NK.t()); }) +
           seconds_of([&] { at::mm_out(dx_MK, y_MN, weight_NK); }) +
           seconds_of([&] { at::mm_out(dweight_aten_NK, y_MN.t(), x_MK); });
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string dtype = argc == 2 ? argv[1] : "";
  if (dtype != "bfloat16" && dtype != "float32") {
    std::fprintf(stderr, "usage: gemm_rate bfloat16|float32 < lines of `m n k times`\n");
    return 2;
  }
  double flops = 0;
  Seconds total;
  int64_t m, n, k, times;
  while (std::cin >> m >> n >> k >> times) {
    const Seconds s = measure(m, n, k, dtype == "float32" ? torch::kFloat : torch::kBFloat16);
    flops += 6.0 * static_cast<double>(m * n * k * times);
    total.ours += s.ours * static_cast<double>(times);
    total.aten += s.aten * static_cast<double>(times);
  }
  fmt::print("{{\"ours_gflops\": {:.1f}, \"aten_gflops\": {:.1f}}}\n", flops / total.ours / 1e9,
             flops / total.aten / 1e9);
}
