// SPDX-License-Identifier: Apache-2.0
// The ops of a language model at the shapes of bench/compare: 2 x 1024 tokens, width 512, 8 query and 4 key/value heads of 64.
// T tokens  D in  N out  E experts  H query heads  G kv heads  K head dim  V vocabulary
#include <fmt/format.h>
#include <torch/types.h>

#include "op_case.h"
#include "veomni/ops/activation.h"
#include "veomni/ops/attention.h"
#include "veomni/ops/embedding.h"
#include "veomni/ops/grouped_linear.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/loss.h"
#include "veomni/ops/norm.h"
#include "veomni/ops/qk_norm_rope.h"
#include "veomni/ops/rope.h"
#include "veomni/ops/rows.h"

namespace veomni::bench {
namespace {

using torch::Tensor;
constexpr int64_t kT = 2048, kD = 512, kH = 8, kG = 4, kK = 64, kInner = 1536, kV = 32768;

double bytes(torch::ScalarType dtype, double elements) {
  return elements * static_cast<double>(c10::elementSize(dtype));
}

/// An op whose time memory decides: elements read and written.
Work moved(torch::ScalarType dtype, double forward, double backward) {
  return {0, 0, bytes(dtype, forward), bytes(dtype, backward)};
}

void add_linear(std::vector<OpCase>& cases, torch::ScalarType dtype, int64_t D, int64_t N) {
  const double flops = 2.0 * kT * D * N, size = bytes(dtype, kT * D + N * D + kT * N);
  cases.push_back({"linear",
                   fmt::format("{} x {} -> {}", kT, D, N),
                   dtype,
                   {flops, 2 * flops, size, 2 * size},
                   [=](bool ours) {
                     auto x_TD = leaf({kT, D}, dtype), weight_ND = weight({N, D}, dtype, ours);
                     return Built{[=] {
                                    return ours ? ops::linear(x_TD, weight_ND)
                                                : at::linear(x_TD, weight_ND);
                                  },
                                  {x_TD, weight_ND}};
                   }});
}

/// Offsets of groups whose sizes go as 0, 5, 2, 7, 4, 1, 6, 3, again and again: uneven, one in eight empty.
Tensor uneven_groups(int64_t E, int64_t T) {
  std::vector<int32_t> offsets = {0};
  int64_t parts = 0;
  for (int64_t e = 0; e < E; ++e) {
    parts += e * 5 % 8;
    offsets.push_back(static_cast<int32_t>(T * parts / (E / 8 * 28)));
  }
  return torch::tensor(offsets, torch::kInt);
}

enum class GroupedPeer { kLoopOfMm, kGroupedMm };

Tensor aten_grouped(GroupedPeer peer, const Tensor& x_TD, const Tensor& weight_END,
                    const Tensor& offsets) {
  if (peer == GroupedPeer::kGroupedMm)
    return at::_grouped_mm(x_TD, weight_END.transpose(1, 2), offsets.slice(0, 1));
  std::vector<Tensor> parts;
  const int32_t* begin = offsets.const_data_ptr<int32_t>();
  // unbind: backward of a weight selected by itself would fill the gradients of all.
  for (const Tensor& weight_ND : weight_END.unbind()) {
    parts.push_back(at::mm(x_TD.slice(0, begin[0], begin[1]), weight_ND.t()));
    ++begin;
  }
  return at::cat(parts);
}

// ATen's own op for it and a loop over the experts, as most models have.
void add_grouped_linear(std::vector<OpCase>& cases, torch::ScalarType dtype, int64_t T, int64_t E,
                        int64_t D, int64_t N) {
  const double flops = 2.0 * T * D * N, size = bytes(dtype, T * D + E * N * D + T * N);
  for (const auto& [peer, name] : {std::pair(GroupedPeer::kLoopOfMm, "a loop of mm"),
                                   std::pair(GroupedPeer::kGroupedMm, "_grouped_mm")}) {
    cases.push_back({"grouped_linear",
                     fmt::format("{} in {} groups x {} -> {}, {}", T, E, D, N, name),
                     dtype,
                     {flops, 2 * flops, size, 2 * size},
                     [=, peer = peer](bool ours) {
                       auto x_TD = leaf({T, D}, dtype), weight_END = weight({E, N, D}, dtype, ours);
                       const Tensor offsets = uneven_groups(E, T);
                       return Built{[=] {
                                      return ours ? ops::grouped_linear(x_TD, weight_END, offsets)
                                                  : aten_grouped(peer, x_TD, weight_END, offsets);
                                    },
                                    {x_TD, weight_END}};
                     }});
  }
}

struct AttentionShape {
  std::string name;
  std::vector<int32_t> cu;
  int64_t heads, kv_heads;
  bool causal;
};

// ATen knows no packed sequences: sequences of one length are a batch, others a call each.
Tensor aten_attention(const Tensor& q_THK, const Tensor& k_TGK, const Tensor& v_TGK,
                      const AttentionShape& shape) {
  const auto call = [&](int64_t begin, int64_t end, int64_t batch) {
    const auto part = [&](const Tensor& x) {
      return x.slice(0, begin, end)
          .view({batch, (end - begin) / batch, x.size(1), x.size(2)})
          .transpose(1, 2);
    };
    return at::scaled_dot_product_attention(part(q_THK), part(k_TGK), part(v_TGK), {}, 0.0,
                                            shape.causal, 0.125,
                                            /*enable_gqa=*/shape.heads != shape.kv_heads);
  };
  const int64_t count = static_cast<int64_t>(shape.cu.size()) - 1, length = shape.cu[1];
  if (length * count == shape.cu.back()) return call(0, shape.cu.back(), count);
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < count; ++i) parts.push_back(call(shape.cu[i], shape.cu[i + 1], 1));
  return at::cat(parts, 2);
}

void add_attention(std::vector<OpCase>& cases, torch::ScalarType dtype,
                   const AttentionShape& shape) {
  double pairs = 0;
  for (size_t i = 1; i < shape.cu.size(); ++i) {
    const double length = shape.cu[i] - shape.cu[i - 1];
    pairs += shape.causal ? length * (length + 1) / 2 : length * length;
  }
  // Two products forward; backward makes the scores again, so five.
  const int64_t T = shape.cu.back(), H = shape.heads, G = shape.kv_heads;
  const double product = 2 * pairs * static_cast<double>(H * kK),
               size = bytes(dtype, 2.0 * T * (H + G) * kK);
  cases.push_back(
      {"attention", shape.name, dtype, {2 * product, 5 * product, size, 2 * size}, [=](bool ours) {
         auto q_THK = leaf({T, H, kK}, dtype), k_TGK = leaf({T, G, kK}, dtype),
              v_TGK = leaf({T, G, kK}, dtype);
         const ops::AttentionSpec spec{.scale = 0.125, .causal = shape.causal};
         return Built{[=] {
                        return ours ? ops::varlen_attention(q_THK, k_TGK, v_TGK, shape.cu, shape.cu,
                                                            spec)
                                          .out_THK
                                    : aten_attention(q_THK, k_TGK, v_TGK, shape);
                      },
                      {q_THK, k_TGK, v_TGK}};
       }});
}

void add_norms(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const double n = 1.0 * kT * kD;
  cases.push_back({"rms_norm", "2048 x 512", dtype, moved(dtype, 2 * n, 3 * n), [=](bool ours) {
                     auto x_TD = leaf({kT, kD}, dtype), weight_D = weight({kD}, dtype, ours);
                     return Built{[=] {
                                    return ours ? ops::rms_norm(x_TD, weight_D, 1e-6)
                                                : at::rms_norm(x_TD, {kD}, weight_D, 1e-6);
                                  },
                                  {x_TD, weight_D}};
                   }});
  cases.push_back({"layer_norm", "2048 x 512", dtype, moved(dtype, 2 * n, 3 * n), [=](bool ours) {
                     auto x_TD = leaf({kT, kD}, dtype), weight_D = weight({kD}, dtype, ours),
                          bias_D = weight({kD}, dtype, ours);
                     return Built{[=] {
                                    return ours
                                               ? ops::layer_norm(x_TD, weight_D, bias_D, 1e-6)
                                               : at::layer_norm(x_TD, {kD}, weight_D, bias_D, 1e-6);
                                  },
                                  {x_TD, weight_D, bias_D}};
                   }});
}

Tensor aten_swiglu(const Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

void add_elementwise(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const double n = 1.0 * kT * kInner;
  cases.push_back({"swiglu", "2048 x 1536", dtype, moved(dtype, 3 * n, 5 * n), [=](bool ours) {
                     auto x = leaf({kT, 2 * kInner}, dtype);
                     return Built{[=] { return ours ? ops::swiglu(x) : aten_swiglu(x); }, {x}};
                   }});
  using Pair = std::pair<Tensor (*)(Tensor), Tensor (*)(const Tensor&)>;
  const std::pair<const char*, Pair> kinds[] = {
      {"silu", {ops::silu, [](const Tensor& x) { return at::silu(x); }}},
      {"gelu",
       {[](Tensor x) { return ops::gelu(std::move(x), false); },
        [](const Tensor& x) { return at::gelu(x); }}},
      {"gelu tanh",
       {[](Tensor x) { return ops::gelu(std::move(x), true); },
        [](const Tensor& x) { return at::gelu(x, "tanh"); }}},
      {"quick_gelu",
       {ops::quick_gelu, [](const Tensor& x) { return x * at::sigmoid(1.702 * x); }}}};
  for (const auto& [name, pair] : kinds) {
    cases.push_back(
        {name, "2048 x 1536", dtype, moved(dtype, 2 * n, 3 * n), [dtype, pair = pair](bool ours) {
           auto x = leaf({kT, kInner}, dtype);
           return Built{[=] { return ours ? pair.first(x) : pair.second(x); }, {x}};
         }});
  }
}

/// Cosines and sines as transformers' rotation reads them: twice, side by side, in the dtype of x.
struct AtenAngles {
  AtenAngles(const ops::RopeTable& table, torch::ScalarType dtype)
      : cos(wide(table.cos_TR, dtype)), sin(wide(table.sin_TR, dtype)) {}
  static Tensor wide(const Tensor& t, torch::ScalarType dtype) {
    return at::cat({t, t}, 1).unsqueeze(1).to(dtype);
  }
  Tensor rotate(const Tensor& x_THK) const {
    const auto halves = x_THK.chunk(2, -1);
    return x_THK * cos + at::cat({-halves[1], halves[0]}, -1) * sin;
  }
  Tensor cos, sin;
};

ops::RopeTable table_of(torch::ScalarType dtype) {
  return ops::rope_table(torch::arange(kT), ops::default_inv_freq(1e6, kK), dtype);
}

void add_rope(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const double heads = 1.0 * kT * kH * kK;
  cases.push_back(
      {"rope", "2048 x 8 x 64", dtype, moved(dtype, 2 * heads, 2 * heads), [=](bool ours) {
         auto x_THK = leaf({kT, kH, kK}, dtype);
         const auto table = table_of(dtype);
         const AtenAngles angles(table, dtype);
         return Built{[=] { return ours ? ops::rope(x_THK, table) : angles.rotate(x_THK); },
                      {x_THK}};
       }});
}

/// As transformers makes q, k and v of one projection, except that attention's transposed layout is not asked for.
Results aten_qk_norm_rope(const Tensor& qkv, const Tensor& q_weight_K, const Tensor& k_weight_K,
                          const AtenAngles& angles) {
  const auto parts = qkv.view({kT, kH + 2 * kG, kK}).split_with_sizes({kH, kG, kG}, 1);
  const auto turned = [&](const Tensor& x_THK, const Tensor& weight_K) {
    return angles.rotate(weight_K.defined() ? at::rms_norm(x_THK, {kK}, weight_K, 1e-6) : x_THK);
  };
  return {turned(parts[0], q_weight_K), turned(parts[1], k_weight_K), parts[2].contiguous()};
}

void add_qk_norm_rope(std::vector<OpCase>& cases, torch::ScalarType dtype, bool normed) {
  const double n = 1.0 * kT * (kH + 2 * kG) * kK;
  cases.push_back({normed ? "qk_norm_rope" : "qk_norm_rope, no norm", "2048 x (8 + 2 x 4) x 64",
                   dtype, moved(dtype, 2 * n, (normed ? 3 : 2) * n), [=](bool ours) {
                     std::vector<Tensor> leaves = {leaf({kT, (kH + 2 * kG) * kK}, dtype)};
                     Tensor q_K, k_K;
                     if (normed) {
                       leaves.push_back(q_K = weight({kK}, dtype, ours));
                       leaves.push_back(k_K = weight({kK}, dtype, ours));
                     }
                     const auto table = table_of(dtype);
                     const AtenAngles angles(table, dtype);
                     return Built{
                         [=, qkv = leaves[0]]() -> Results {
                           if (!ours) return aten_qk_norm_rope(qkv, q_K, k_K, angles);
                           auto heads = ops::qk_norm_rope(qkv, kH, kG, table, {q_K, k_K, 1e-6});
                           return {heads.q_THK, heads.k_TGK, heads.v_TGK};
                         },
                         leaves};
                   }});
}

void add_rows(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const double n = 1.0 * kT * kD;
  const auto index = (torch::arange(kT) * 7919) % kT;  // every row once, in another order
  cases.push_back({"embedding", "2048 of 32768 x 512", dtype,
                   moved(dtype, 2 * n, n + 1.0 * kV * kD), [=](bool ours) {
                     auto weight_VD = weight({kV, kD}, dtype, ours);
                     const auto ids = (torch::arange(kT) * 7919) % kV;
                     return Built{[=] {
                                    return ours ? ops::embedding(ids, weight_VD)
                                                : at::embedding(weight_VD, ids);
                                  },
                                  {weight_VD}};
                   }});
  cases.push_back({"gather_rows", "2048 x 512", dtype, moved(dtype, 2 * n, 2 * n), [=](bool ours) {
                     auto x = leaf({kT, kD}, dtype);
                     return Built{[=] {
                                    return ours ? ops::gather_rows(x, index)
                                                : at::index_select(x, 0, index);
                                  },
                                  {x}};
                   }});
  const auto half = index.slice(0, 0, kT / 2).contiguous();
  cases.push_back(
      {"put_rows", "1024 into 2048 x 512", dtype, moved(dtype, 2 * n, 2.5 * n), [=](bool ours) {
         auto x = leaf({kT, kD}, dtype), rows = leaf({kT / 2, kD}, dtype);
         return Built{
             [=] { return ours ? ops::put_rows(x, half, rows) : at::index_copy(x, 0, half, rows); },
             {x, rows}};
       }});
  cases.push_back(
      {"add_rows", "1024 to 2048 x 512", dtype, moved(dtype, 2.5 * n, 2 * n), [=](bool ours) {
         auto x = leaf({kT, kD}, dtype), rows = leaf({kT / 2, kD}, dtype);
         return Built{
             [=] { return ours ? ops::add_rows(x, half, rows) : at::index_add(x, 0, half, rows); },
             {x, rows}};
       }});
}

void add_loss(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  const double flops = 2.0 * kT * kD * kV, size = bytes(dtype, 1.0 * kT * kD + 1.0 * kV * kD);
  cases.push_back(
      {"linear_cross_entropy",
       "2048 x 512 -> 32768",
       dtype,
       {flops, 2 * flops, size, size},
       [=](bool ours) {
         auto x_TD = leaf({kT, kD}, dtype), weight_VD = weight({kV, kD}, dtype, ours);
         const auto labels = (torch::arange(kT) * 7919) % kV;
         const auto weights = torch::full({kT}, 1.0 / kT, torch::kDouble);
         return Built{[=] {
                        if (ours)
                          return ops::linear_cross_entropy(x_TD, weight_VD, labels, weights).total;
                        return at::cross_entropy_loss(at::linear(x_TD, weight_VD).to(torch::kFloat),
                                                      labels);
                      },
                      {x_TD, weight_VD}};
       },
       true});
}

}  // namespace

void add_language(std::vector<OpCase>& cases, torch::ScalarType dtype) {
  add_linear(cases, dtype, kD, kH * kK);
  add_linear(cases, dtype, kD, kInner);
  add_linear(cases, dtype, kInner, kD);
  add_grouped_linear(cases, dtype, 4096, 8, kD, kInner);
  add_grouped_linear(cases, dtype, 4096, 64, kD, kInner);
  add_grouped_linear(cases, dtype, 256, 64, kD, kInner);
  add_attention(cases, dtype, {"2 x 1024, 8/4 heads of 64, causal", {0, 1024, 2048}, kH, kG, true});
  add_attention(cases, dtype,
                {"packed 64..512, 8/4 heads of 64, causal",
                 {0, 300, 364, 876, 1100, 1228, 1700, 2048},
                 kH,
                 kG,
                 true});
  add_attention(cases, dtype,
                {"8 x 256, 4 heads of 64, whole",
                 {0, 256, 512, 768, 1024, 1280, 1536, 1792, 2048},
                 4,
                 4,
                 false});
  add_norms(cases, dtype);
  add_elementwise(cases, dtype);
  add_rope(cases, dtype);
  for (const bool normed : {true, false}) add_qk_norm_rope(cases, dtype, normed);
  add_rows(cases, dtype);
  add_loss(cases, dtype);
}

}  // namespace veomni::bench
