// SPDX-License-Identifier: Apache-2.0
#include "gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>

#include "kernels/level.h"
#include "veomni/base/names.h"
#include "veomni/ops/allocation_count.h"
#include "veomni/ops/linear.h"

namespace veomni::ops {
namespace {

std::atomic<LinearBackend> g_backend{LinearBackend::kAuto};

// Below this many rows packing the weight for the own kernels costs more than the product.
constexpr int64_t kMinRowsForOwn = 48;

/// The processor's answer to kAuto (docs/adr/0006). By vendor and instruction set, not by timing: the same on every run.
/// float32: on AMD's processors own kernels, since MKL leaves AVX-512 unused there and a step with AVX2's is no longer;
/// elsewhere MKL is as fast. bfloat16: own kernels with AMX, on AMD with AVX512-BF16, and without AVX-512, where ATen's run
/// at a hundredth of float32's rate; elsewhere oneDNN may know better instructions than these kernels.
LinearBackend automatic(at::ScalarType dtype, int64_t rows) {
  using kernels::Level;
  static const Level best = kernels::available_levels().back();
  static const bool amd = kernels::is_amd();
  if (rows < kMinRowsForOwn) return LinearBackend::kBlas;
  const bool float_by_own = amd && best >= Level::kAvx2,
             bf16_by_own =
                 best == Level::kAvx2 || best == Level::kAmx || (amd && best == Level::kAvx512Bf16);
  const bool own = (dtype == at::kFloat && float_by_own) || (dtype == at::kBFloat16 && bf16_by_own);
  return own ? LinearBackend::kOwn : LinearBackend::kBlas;
}

LinearBackend choose(const Tensor& a, int64_t rows) {
  const LinearBackend backend = g_backend.load(std::memory_order_relaxed);
  return backend == LinearBackend::kAuto ? automatic(a.scalar_type(), rows) : backend;
}

struct Strides {
  int64_t row, k;
};

/// out [m,n] (+)= Σ_k a · b (+ bias + residual) by this library's kernels.
void own_matmul(const Tensor& out_MN, const Tensor& a, Strides a_strides, const Tensor& b,
                Strides b_strides, int64_t k, bool accumulate, const Tensor& bias = {},
                const Tensor& residual = {}, const Tensor& packed_b = {}) {
  const int64_t m = out_MN.size(0), n = out_MN.size(1);
  const kernels::DType dtype = kernel_dtype(a, "linear");
  const bool wide_out = out_MN.scalar_type() == acc_dtype(a.scalar_type());
  Tensor workspace =
      at::empty({kernels::matmul_workspace(dtype, wide_out, m, n, k, at::get_num_threads(),
                                           packed_b.defined())},
                a.options().dtype(at::kByte));
  launch(a.device(), kernels::MatMul{dtype, wide_out, accumulate, m, n, k, in(a), a_strides.row,
                                     a_strides.k, in(b), b_strides.row, b_strides.k, out(out_MN), n,
                                     out(workspace), in(bias), in(residual), in(packed_b)});
}

/// b's panels if they are kept.
Tensor kept_panels(const PackedWeightPtr& packed, PackedWeight::Side side, const Tensor& b) {
  return packed && packed->keeps() ? packed->panels(side, b) : Tensor();
}

/// x · wᵀ through oneDNN, which only its fused linear reaches for float32.
Tensor onednn_linear(const Tensor& x, const Tensor& w) {
  static const auto schema =
      c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  VEOMNI_CHECK_CONFIG(schema.has_value(),
                      "ops.linear: onednn asked for, but this libtorch has no oneDNN; use blas");
  torch::jit::Stack stack{x,
                          w,
                          c10::IValue(),
                          std::string("none"),
                          c10::impl::GenericList(c10::OptionalType::create(c10::NumberType::get())),
                          std::string("")};
  schema->callBoxed(stack);
  return stack[0].toTensor();
}

/// out (+)= a · b by ATen, b seen through its strides. Only for tensors with memory.
void aten_matmul(const Tensor& out_MN, const Tensor& a, const Tensor& b, bool accumulate,
                 LinearBackend backend) {
  trace::Span span(trace::Category::kKernel, "MatMul (ATen)");
  if (span.active()) span.set_flops(2.0 * static_cast<double>(out_MN.numel() * a.size(1)));
  const AtenScope aten;
  const at::NoGradGuard no_grad;
  Tensor target = out_MN;
  if (backend == LinearBackend::kOneDnn && a.scalar_type() == at::kFloat && a.size(1) > 0 &&
      target.numel() > 0) {
    const Tensor product = onednn_linear(a.contiguous(), b.t().contiguous());
    if (accumulate) {
      target.add_(product);
    } else {
      target.copy_(product);
    }
  } else if (accumulate) {
    target.addmm_(a, b);
  } else {
    at::mm_out(target, a, b);
  }
}

/// Sizes, strides and groups of a product whose operands are in `args` already, by this library's
/// kernels.
void own_grouped_matmul(kernels::GroupedMatMul args, const Tensor& out, const Tensor& a,
                        const Tensor& b, const Tensor& offsets) {
  args.dtype = kernel_dtype(a, "grouped_linear");
  args.wide_out = out.scalar_type() == acc_dtype(a.scalar_type());
  args.groups = offsets.numel() - 1;
  args.offsets = offsets.const_data_ptr<int64_t>();
  args.a = in(a);
  args.b = in(b);
  args.out = ops::out(out);
  args.out_m = out.size(-1);
  Tensor workspace = at::empty({kernels::grouped_matmul_workspace(args, at::get_num_threads())},
                               a.options().dtype(at::kByte));
  args.workspace = ops::out(workspace);
  launch(a.device(), args);
}

/// body(e, first row, rows) for each group of rows.
template <typename Body> void for_groups(const Tensor& offsets, const Body& body) {
  const int64_t* begin = offsets.const_data_ptr<int64_t>();
  for (int64_t e = 0; e + 1 < offsets.numel(); ++e) body(e, begin[e], begin[e + 1] - begin[e]);
}

/// What choose() goes by for products of groups of rows.
int64_t rows_of_group(const Tensor& offsets) {
  int64_t rows = 0, groups = 0;
  for_groups(offsets, [&](int64_t, int64_t, int64_t count) {
    rows += count;
    groups += count > 0;
  });
  return groups ? rows / groups : 0;
}

/// out [M,N] = a [M,K] · b[e] [N,K]ᵀ, b seen through its strides.
void multiply_groups(const Tensor& out_MN, const Tensor& a, const Tensor& b_ENK,
                     const Tensor& offsets) {
  const int64_t n = b_ENK.size(1), k = b_ENK.size(2);
  const LinearBackend backend = choose(a, rows_of_group(offsets));
  if (backend == LinearBackend::kOwn) {
    return own_grouped_matmul({.axis = kernels::GroupedAxis::kRows,
                               .m = a.size(0),
                               .n = n,
                               .k = k,
                               .a_m = k,
                               .a_k = 1,
                               .b_group = n * k,
                               .b_n = b_ENK.stride(1),
                               .b_k = b_ENK.stride(2)},
                              out_MN, a, b_ENK, offsets);
  }
  if (a.is_meta()) return;
  for_groups(offsets, [&](int64_t e, int64_t begin, int64_t rows) {
    if (rows == 0) return;
    aten_matmul(out_MN.narrow(0, begin, rows), a.narrow(0, begin, rows), b_ENK[e].t(), false,
                backend);
  });
}

}  // namespace

void matmul_nt(const Tensor& out_MN, const Tensor& a, const Tensor& b, const Tensor& bias,
               const Tensor& residual, const PackedWeightPtr& packed) {
  const int64_t k = a.size(1);
  const LinearBackend backend = choose(a, out_MN.size(0));
  if (backend == LinearBackend::kOwn) {
    return own_matmul(out_MN, a, {k, 1}, b, {k, 1}, k, false, bias, residual,
                      kept_panels(packed, PackedWeight::Side::kForward, b));
  }
  if (a.is_meta()) return;
  aten_matmul(out_MN, a, b.t(), false, backend);
  if (bias.defined()) {
    launch(a.device(), kernels::AddBias{kernel_dtype(a, "linear"), out_MN.size(0), out_MN.size(1),
                                        in(bias), out(out_MN)});
  }
  if (residual.defined()) {
    const AtenScope aten;
    const at::NoGradGuard no_grad;
    Tensor(out_MN).add_(residual);
  }
}

void matmul_nn(const Tensor& out_MN, const Tensor& a, const Tensor& b,
               const PackedWeightPtr& packed) {
  const int64_t k = a.size(1);
  const LinearBackend backend = choose(a, out_MN.size(0));
  if (backend == LinearBackend::kOwn) {
    return own_matmul(out_MN, a, {k, 1}, b, {1, b.size(1)}, k, false, {}, {},
                      kept_panels(packed, PackedWeight::Side::kInput, b));
  }
  if (!a.is_meta()) aten_matmul(out_MN, a, b, false, backend);
}

void matmul_tn(const Tensor& out_NK, const Tensor& a, const Tensor& b, bool accumulate) {
  const LinearBackend backend = choose(a, out_NK.size(0));
  // ATen has no product of bfloat16 operands with a float32 result: it would round every weight
  // gradient.
  if (backend == LinearBackend::kOwn || a.scalar_type() == at::kBFloat16) {
    return own_matmul(out_NK, a, {1, a.size(1)}, b, {1, b.size(1)}, a.size(0), accumulate);
  }
  if (!a.is_meta()) aten_matmul(out_NK, a.t(), b, accumulate, backend);
}

void grouped_matmul_nt(const Tensor& out_MN, const Tensor& a, const Tensor& b_ENK,
                       const Tensor& offsets) {
  multiply_groups(out_MN, a, b_ENK, offsets);
}

void grouped_matmul_nn(const Tensor& out_MN, const Tensor& a, const Tensor& b_EKN,
                       const Tensor& offsets) {
  multiply_groups(out_MN, a, b_EKN.transpose(1, 2), offsets);
}

void grouped_matmul_tn(const Tensor& out_ENK, const Tensor& a, const Tensor& b,
                       const Tensor& offsets) {
  const int64_t m = out_ENK.size(1), n = out_ENK.size(2);
  const LinearBackend backend = choose(a, m);
  if (backend == LinearBackend::kOwn || a.scalar_type() == at::kBFloat16) {
    return own_grouped_matmul({.axis = kernels::GroupedAxis::kTerms,
                               .m = m,
                               .n = n,
                               .k = a.size(0),
                               .a_m = 1,
                               .a_k = m,
                               .b_n = 1,
                               .b_k = n,
                               .out_group = m * n},
                              out_ENK, a, b, offsets);
  }
  if (a.is_meta()) return;
  for_groups(offsets, [&](int64_t e, int64_t begin, int64_t rows) {
    aten_matmul(out_ENK[e], a.narrow(0, begin, rows).t(), b.narrow(0, begin, rows), false, backend);
  });
}

void set_linear_backend(LinearBackend backend) { g_backend.store(backend); }

void set_linear_backend(const std::string& name) {
  if (name == "auto") return set_linear_backend(LinearBackend::kAuto);
  if (name == "onednn") return set_linear_backend(LinearBackend::kOneDnn);
  if (name == "blas") return set_linear_backend(LinearBackend::kBlas);
  VEOMNI_CHECK_CONFIG(name == "own",
                      unknown_name_message("ops.linear", name, {"auto", "onednn", "blas", "own"}));
  set_linear_backend(LinearBackend::kOwn);
}

LinearBackend linear_backend() { return g_backend.load(); }

}  // namespace veomni::ops
