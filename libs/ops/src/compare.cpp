// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/compare.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "launch.h"
#include "veomni/base/error.h"

namespace veomni::ops {

double relative_error(at::Tensor a, at::Tensor b, double all_norm, int64_t all_numel) {
  VEOMNI_CHECK(a.defined() && b.defined(), "relative_error: an undefined tensor has no error");
  VEOMNI_CHECK(a.sizes() == b.sizes(), "relative_error: shapes ", a.sizes(), " and ", b.sizes(),
               " differ");
  if (b.numel() == 0) return 0;
  const at::NoGradGuard no_grad;
  const at::Tensor reference = b.detach().to(at::kCPU, at::kDouble);
  const double difference =
      (a.detach().to(at::kCPU, at::kDouble) - reference).norm().item<double>();
  const double norm = reference.norm().item<double>();
  if (difference == 0) return 0;
  if (!std::isfinite(difference) || norm == 0) return std::numeric_limits<double>::infinity();
  const double share =
      all_numel > 0 ? std::sqrt(static_cast<double>(b.numel()) / static_cast<double>(all_numel))
                    : 0;
  return difference / std::max(norm, 1e-3 * share * all_norm);
}

double sum_of_squares(at::Tensor x) {
  VEOMNI_CHECK(x.defined() && !x.is_meta(), "sum_of_squares: x has no values");
  const at::NoGradGuard no_grad;
  const at::Tensor values = x.contiguous();
  const int64_t stretches =
      (values.numel() + kernels::kSquaresStretch - 1) / kernels::kSquaresStretch;
  const at::Tensor sums = at::empty({stretches}, values.options().dtype(at::kDouble));
  launch(values.device(), kernels::SumOfSquares{kernel_dtype(values, "sum_of_squares"),
                                                values.numel(), in(values), out(sums)});
  const at::Tensor on_host = sums.cpu();
  const double* partial = on_host.const_data_ptr<double>();
  return std::accumulate(partial, partial + stretches, 0.0);
}

}  // namespace veomni::ops
