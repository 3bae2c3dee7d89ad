// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/qk_norm_rope.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "reference.h"
#include "rotate_half.h"
#include "veomni/base/error.h"
#include "veomni/ops/norm.h"

namespace veomni::ops::testing {
namespace {

constexpr double kEps = 1e-6;

/// Sizes, and which of q and k is normed.
struct Shape {
  int64_t tokens, heads, kv_heads, width, rotated;
  bool q_norm = true, k_norm = true;

  int64_t row() const { return (heads + 2 * kv_heads) * width; }
  RopeTable table(at::ScalarType dtype) const {
    return rope_table(integers(tokens, 5000, 4), default_inv_freq(1e4, rotated), dtype);
  }
  /// qkv, then the weights that there are, around one.
  Tensors inputs() const {
    Tensors result = {normal({tokens, row()}, 1)};
    if (q_norm) result.push_back(normal({width}, 2) * 0.3 + 1);
    if (k_norm) result.push_back(normal({width}, 3) * 0.3 + 1);
    return result;
  }
  HeadNorms norms(const Tensors& t) const {
    return {q_norm ? t[1] : Tensor(), k_norm ? t.back() : Tensor(), kEps};
  }
  QkvHeads apply(const Tensors& t, const RopeTable& table) const {
    return qk_norm_rope(t[0], heads, kv_heads, table, norms(t));
  }
  std::string name() const {
    return c10::str(heads, "/", kv_heads, " heads of ", width, ", ", rotated, " rotated, norms ",
                    q_norm, k_norm);
  }
};

Tensor flat(const QkvHeads& heads) {
  return at::cat({heads.q_THK.flatten(), heads.k_TGK.flatten(), heads.v_TGK.flatten()});
}

/// The three parts of qkv: norm and rotation by the functions given.
template <typename Norm, typename Rotate>
QkvHeads in_turn(const Shape& shape, const Tensors& t, const Norm& norm, const Rotate& rotate) {
  const auto parts = t[0].view({t[0].size(0), -1, shape.width})
                         .split_with_sizes({shape.heads, shape.kv_heads, shape.kv_heads}, 1);
  const HeadNorms norms = shape.norms(t);
  const auto normed = [&](const Tensor& x, const Tensor& weight) {
    return rotate(weight.defined() ? norm(x, weight) : x);
  };
  return {normed(parts[0], norms.q_weight_K), normed(parts[1], norms.k_weight_K), parts[2]};
}

Tensor reference(const Shape& shape, const Tensors& t, const RopeTable& table) {
  return flat(in_turn(
      shape, t,
      [](const Tensor& x, const Tensor& weight) {
        return weight * (x * (x.pow(2).mean(-1, true) + kEps).rsqrt());
      },
      [&](const Tensor& x) { return rotate_half(x, widened(table)); }));
}

QkvHeads two_ops(const Shape& shape, const Tensors& t, const RopeTable& table) {
  return in_turn(
      shape, t,
      [](const Tensor& x, const Tensor& weight) { return ops::rms_norm(x, weight, kEps); },
      [&](const Tensor& x) { return ops::rope(x, table); });
}

std::vector<Shape> shapes() {
  std::vector<Shape> result;
  for (Shape shape : {Shape{33, 4, 4, 64, 64}, Shape{200, 8, 2, 64, 64}, Shape{33, 6, 3, 40, 20},
                      Shape{33, 3, 1, 80, 40}, Shape{70, 2, 1, 128, 128}, Shape{1, 5, 5, 18, 10},
                      Shape{7, 2, 2, 16, 0}}) {
    for (const bool q_norm : {false, true}) {
      for (const bool k_norm : {false, true}) {
        shape.q_norm = q_norm, shape.k_norm = k_norm;
        result.push_back(shape);
      }
    }
  }
  return result;
}

TEST(QkNormRope, MatchesTheFormulaAtEveryLevel) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const Shape& shape : shapes()) {
      const RopeTable table = shape.table(dtype);
      expect_same([&](const Tensors& t) { return flat(shape.apply(t, table)); },
                  [&](const Tensors& t) { return reference(shape, t, table); }, shape.inputs(),
                  dtype, shape.name());
    }
  }
}

// A sum in another order may carry a value across a rounding boundary, in one of thousands; a rounding that is left out
// changes every third.
TEST(QkNormRope, RoundsWhereNormAndRotationInTurnDo) {
  at_every_level([] {
    for (const Shape& shape : shapes()) {
      SCOPED_TRACE(shape.name());
      const RopeTable table = shape.table(at::kBFloat16);
      const Tensors inputs = leaves(shape.inputs(), at::kBFloat16);
      const at::NoGradGuard no_grad;
      const Tensor ours = flat(shape.apply(inputs, table));
      const int64_t differing =
          at::ne(ours, flat(two_ops(shape, inputs, table))).sum().item<int64_t>();
      EXPECT_LE(differing, ours.numel() / 200);
    }
  });
}

TEST(QkNormRope, ResultsAreContiguousAndVIsExact) {
  const Shape shape{9, 4, 2, 40, 20};
  const Tensors inputs = leaves(shape.inputs(), at::kFloat);
  const QkvHeads heads = shape.apply(inputs, shape.table(at::kFloat));
  for (const Tensor& x : {heads.q_THK, heads.k_TGK, heads.v_TGK}) EXPECT_TRUE(x.is_contiguous());
  EXPECT_EQ(heads.q_THK.sizes(), (at::IntArrayRef{9, 4, 40}));
  EXPECT_EQ(heads.k_TGK.sizes(), (at::IntArrayRef{9, 2, 40}));
  EXPECT_TRUE(at::equal(heads.v_TGK, inputs[0].view({9, 8, 40}).slice(1, 6)));
}

TEST(QkNormRope, StridedQkvIsRead) {
  const Shape shape{9, 4, 2, 40, 20};
  const RopeTable table = shape.table(at::kDouble);
  Tensors strided = shape.inputs();
  strided[0] = normal({shape.row(), 9}, 1).t();
  ASSERT_FALSE(strided[0].is_contiguous());
  Tensors plain = strided;
  plain[0] = strided[0].contiguous();
  EXPECT_TRUE(at::equal(flat(shape.apply(strided, table)), flat(shape.apply(plain, table))));
}

// A result that nothing reads has no gradient, which counts as one of zeros.
TEST(QkNormRope, ResultsMayBeUnused) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const bool normed : {false, true}) {
      const Shape shape{20, 4, 2, 40, 20, normed, normed};
      const RopeTable table = shape.table(dtype);
      for (int used = 1; used < 8; ++used) {
        SCOPED_TRACE(used);
        const auto grads = [&](bool with_zeros) {
          const Tensors t = leaves(shape.inputs(), dtype);
          const QkvHeads heads = shape.apply(t, table);
          const Tensor all[] = {heads.q_THK, heads.k_TGK, heads.v_TGK};
          Tensors roots, cotangents;
          for (int i = 0; i < 3; ++i) {
            const bool read = used >> i & 1;
            if (!read && !with_zeros) continue;
            roots.push_back(all[i]);
            const Tensor cotangent = normal(all[i].sizes(), 7 + i).to(dtype);
            cotangents.push_back(read ? cotangent : at::zeros_like(cotangent));
          }
          torch::autograd::backward(roots, cotangents);
          Tensors result;
          for (const Tensor& input : t) result.push_back(input.grad());
          return result;
        };
        const Tensors ours = grads(false), zeros = grads(true);
        for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::equal(ours[i], zeros[i])) << i;
      }
    }
  }
}

// Which inputs get a gradient, by bits: qkv, q's weight, k's weight; with q's norm there and not.
TEST(QkNormRope, FrozenInputsGetNoGradient) {
  for (const bool q_norm : {true, false}) {
    const Shape shape{20, 4, 2, 40, 20, q_norm, true};
    const RopeTable table = shape.table(at::kFloat);
    Tensors all = leaves(shape.inputs(), at::kFloat);
    flat(shape.apply(all, table)).pow(2).sum().backward();
    for (unsigned trained = 1; trained < 1U << all.size(); ++trained) {
      SCOPED_TRACE(trained);
      Tensors t = leaves(shape.inputs(), at::kFloat);
      for (size_t i = 0; i < t.size(); ++i) t[i].set_requires_grad(trained >> i & 1U);
      flat(shape.apply(t, table)).pow(2).sum().backward();
      for (size_t i = 0; i < t.size(); ++i) {
        ASSERT_EQ(t[i].grad().defined(), (trained >> i & 1U) != 0) << i;
        if (!t[i].grad().defined()) continue;
        EXPECT_TRUE(at::equal(t[i].grad(), all[i].grad())) << i;
      }
    }
  }
}

TEST(QkNormRope, WeightGradientsOfBFloat16AreFloat) {
  const Shape shape{20, 4, 2, 40, 20};
  const Tensors t = leaves(shape.inputs(), at::kBFloat16);
  flat(shape.apply(t, shape.table(at::kBFloat16))).sum().backward();
  EXPECT_EQ(t[1].grad().scalar_type(), at::kFloat);
  EXPECT_EQ(t[2].grad().scalar_type(), at::kFloat);
}

TEST(QkNormRope, ThreadsChangeNoBit) {
  const int before = at::get_num_threads();
  const Shape shape{201, 8, 2, 64, 64};
  const RopeTable table = shape.table(at::kFloat);
  std::vector<Outcome> outcomes;
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    outcomes.push_back(run([&](const Tensors& t) { return flat(shape.apply(t, table)); },
                           leaves(shape.inputs(), at::kFloat),
                           normal({shape.tokens * shape.row()}, 8)));
  }
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(outcomes[0].y, outcomes[1].y));
  for (size_t i = 0; i < outcomes[0].grads.size(); ++i)
    EXPECT_TRUE(at::equal(outcomes[0].grads[i], outcomes[1].grads[i])) << i;
}

TEST(QkNormRope, NoTokensGiveZeroGradients) {
  const Shape shape{0, 4, 2, 40, 20};
  const Tensors t = leaves(shape.inputs(), at::kFloat);
  const QkvHeads heads = shape.apply(t, shape.table(at::kFloat));
  EXPECT_EQ(heads.q_THK.sizes(), (at::IntArrayRef{0, 4, 40}));
  flat(heads).sum().backward();
  EXPECT_EQ(t[0].grad().sizes(), t[0].sizes());
  EXPECT_TRUE(at::equal(t[1].grad(), at::zeros({40})));
  EXPECT_TRUE(at::equal(t[2].grad(), at::zeros({40})));
}

TEST(QkNormRope, NanReachesItsHeadAlone) {
  for (const at::ScalarType dtype : kDtypes) {
    at_every_level([dtype] {
      const Shape shape{3, 4, 2, 40, 20};
      Tensors t = shape.inputs();
      for (Tensor& x : t) x = x.to(dtype);
      t[0][1][2 * 40 + 5].fill_(std::nan(""));  // token 1, head 2 of q
      const QkvHeads heads = shape.apply(t, shape.table(dtype));
      EXPECT_TRUE(at::isnan(heads.q_THK[1][2]).all().item<bool>());
      EXPECT_EQ(at::isnan(flat(heads)).sum().item<int64_t>(), 40);
    });
  }
}

TEST(QkNormRope, MetaHasTheShapesAndGradients) {
  const Shape shape{9, 4, 2, 40, 20};
  Tensors t = shape.inputs();
  for (Tensor& x : t) x = x.to(at::kMeta).set_requires_grad(true);
  const RopeTable table = rope_table(at::empty({9}, at::dtype(at::kLong).device(at::kMeta)),
                                     default_inv_freq(1e4, 20), at::kDouble);
  const QkvHeads heads = shape.apply(t, table);
  EXPECT_TRUE(heads.v_TGK.is_meta());
  flat(heads).sum().backward();
  for (const Tensor& x : t) EXPECT_EQ(x.grad().sizes(), x.sizes());
}

TEST(QkNormRope, RefusesWhatDoesNotFit) {
  const Shape shape{3, 4, 2, 40, 20};
  const RopeTable table = shape.table(at::kFloat);
  const Tensor qkv = at::ones({3, 320}), weight = at::ones({40});
  EXPECT_NO_THROW(qk_norm_rope(qkv, 4, 2, table, {weight, weight}));
  EXPECT_THROW(qk_norm_rope(qkv, 5, 2, table), Error);
  EXPECT_THROW(qk_norm_rope(qkv, 8, 0, table), Error);
  EXPECT_THROW(qk_norm_rope(at::ones({3, 8, 40}), 4, 2, table), Error);
  EXPECT_THROW(qk_norm_rope(at::ones({4, 320}), 4, 2, table), Error);
  EXPECT_THROW(qk_norm_rope(at::ones({3, 128}), 4, 2, table), Error);  // heads of 16, 20 rotated
  EXPECT_THROW(qk_norm_rope(qkv.to(at::kDouble), 4, 2, table), Error);
  EXPECT_THROW(qk_norm_rope(qkv, 4, 2, table, {at::ones({41}), weight}), Error);
  EXPECT_THROW(qk_norm_rope(qkv, 4, 2, table, {weight, weight.to(at::kBFloat16)}), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
