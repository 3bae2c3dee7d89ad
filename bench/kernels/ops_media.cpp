// SPDX-License-Identifier: Apache-2.0
// The ops of encoders and decoders, at sizes of a small picture tokenizer and an audio encoder.
// N pictures  H W pixels  C channels
#include <fmt/format.h>
#include <torch/types.h>

#include "op_case.h"
#include "veomni/ops/conv.h"
#include "veomni/ops/group_norm.h"
#include "veomni/ops/norm.h"
#include "veomni/ops/resample.h"
#include "veomni/ops/vq.h"

namespace veomni::bench {
namespace {

using torch::Tensor;

Work moved(torch::ScalarType dtype, double forward, double backward) {
  const auto size = static_cast<double>(c10::elementSize(dtype));
  return {0, 0, forward * size, backward * size};
}

/// ATen's order of the same bytes: [N, C, H, W], channels last.
Tensor nchw(const Tensor& x_NHWC) { return x_NHWC.permute({0, 3, 1, 2}); }

void add_pictures(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const int64_t N = 16, S = 28, C = 64;
  const double n = 1.0 * N * S * S * C, flops = 2 * n * C * 9;
  Work convolution = moved(dtype, 2 * n, 3 * n);
  convolution.flops_forward = flops;
  convolution.flops_backward = 2 * flops;
  cases.push_back({"conv2d", "16 x 28 x 28 x 64, 3 x 3", dtype, convolution, [=](bool ours) {
                     auto x = leaf({N, S, S, C}, dtype), w = weight({C, C, 3, 3}, dtype, ours),
                          b = weight({C}, dtype, ours);
                     const ops::Conv2dOptions options{
                         .pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};
                     return Built{[=] {
                                    return ours ? ops::conv2d(x, w, b, options)
                                                : at::conv2d(nchw(x), w, b, 1, 1);
                                  },
                                  {x, w, b}};
                   }});
  cases.push_back({"group_norm + silu", "16 x 28 x 28 x 64, 32 groups", dtype,
                   moved(dtype, 2 * n, 3 * n), [=](bool ours) {
                     auto x = leaf({N, S, S, C}, dtype), w = weight({C}, dtype, ours),
                          b = weight({C}, dtype, ours);
                     return Built{[=] {
                                    return ours ? ops::group_norm(x, w, b, 32, 1e-6, true)
                                                : at::silu(at::group_norm(nchw(x), 32, w, b, 1e-6));
                                  },
                                  {x, w, b}};
                   }});
  cases.push_back({"upsample_nearest2x", "16 x 28 x 28 x 64", dtype, moved(dtype, 5 * n, 5 * n),
                   [=](bool ours) {
                     auto x = leaf({N, S, S, C}, dtype);
                     return Built{[=] {
                                    return ours ? ops::upsample_nearest2x(x)
                                                : at::upsample_nearest2d(nchw(x), {2 * S, 2 * S});
                                  },
                                  {x}};
                   }});
}

void add_rows(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const int64_t T = 2048, D = 512;
  const double n = 1.0 * T * D;
  cases.push_back(
      {"mean_pairs", "2048 x 512", dtype, moved(dtype, 1.5 * n, 1.5 * n), [=](bool ours) {
         auto x = leaf({T, D}, dtype);
         return Built{[=] {
                        return ours ? ops::mean_pairs(x) : x.view({T / 2, 2, D}).mean(1);
                      },
                      {x}};
       }});
  cases.push_back(
      {"center_rows", "8 x 256 x 512", dtype, moved(dtype, 2 * n, 2 * n), [=](bool ours) {
         auto x = leaf({8, T / 8, D}, dtype);
         return Built{[=] { return ours ? ops::center_rows(x) : x - x.mean(1, true); }, {x}};
       }});
  cases.push_back({"l2_normalize", "2048 x 512", dtype, moved(dtype, 2 * n, 3 * n), [=](bool ours) {
                     auto x = leaf({T, D}, dtype);
                     return Built{[=] {
                                    return ours ? ops::l2_normalize(x)
                                                : x / at::norm(x, 2, {-1}, true).clamp_min(1e-12);
                                  },
                                  {x}};
                   }});
}

void add_quantiser(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const int64_t R = 784, C = 1024, E = 8;
  Work search = moved(dtype, 1.0 * R * E + 1.0 * C * E, 0);
  search.flops_forward = 2.0 * R * C * E;
  cases.push_back({"nearest_code", "784 of 1024 x 8", dtype, search, [=](bool ours) {
                     const auto x = random({R, E}, dtype), book = random({C, E}, dtype);
                     return Built{
                         [=] {
                           if (ours) return ops::nearest_code(x, book);
                           return at::cdist(x.to(torch::kFloat), book.to(torch::kFloat)).argmin(1);
                         },
                         {}};
                   }});
  const int64_t n = 1 << 20;
  for (const bool squared : {true, false}) {
    cases.push_back({squared ? "squared_error" : "absolute_error", "1048576", dtype,
                     moved(dtype, 2.0 * n, 4.0 * n), [=](bool ours) {
                       auto a = leaf({n}, dtype), b = leaf({n}, dtype);
                       return Built{[=] {
                                      if (ours)
                                        return squared ? ops::squared_error(a, b, 0.5)
                                                       : ops::absolute_error(a, b, 0.5);
                                      return 0.5 * (squared
                                                        ? at::mse_loss(a, b, at::Reduction::Sum)
                                                        : at::l1_loss(a, b, at::Reduction::Sum));
                                    },
                                    {a, b}};
                     }});
  }
}

}  // namespace

void add_media(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  add_pictures(cases, dtype);
  add_rows(cases, dtype);
  add_quantiser(cases, dtype);
}

}  // namespace veomni::bench
