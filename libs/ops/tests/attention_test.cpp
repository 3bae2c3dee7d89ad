// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <limits>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

using Lengths = std::vector<int32_t>;

Lengths offsets(const Lengths& lengths) {
  Lengths result = {0};
  for (const int32_t length : lengths) result.push_back(result.back() + length);
  return result;
}

/// Which keys each query sees, [n_q, n_k], spelt out one pair at a time.
Tensor visible(int64_t queries, int64_t keys, const AttentionSpec& spec) {
  Tensor mask = at::zeros({queries, keys}, at::kBool);
  for (int64_t j = 0; j < queries; ++j) {
    for (int64_t i = 0; i < keys; ++i) {
      const int64_t distance = i - (j + keys - queries);
      const bool seen = (!spec.causal || distance <= 0) &&
                        (spec.window_left < 0 || distance >= -spec.window_left) &&
                        (spec.window_right < 0 || distance <= spec.window_right);
      mask.mutable_data_ptr<bool>()[j * keys + i] = seen;
    }
  }
  return mask;
}

/// One segment, dense, with repeated kv heads: out [n_q, H, Kv] and lse [H, n_q].
std::pair<Tensor, Tensor> dense(const Tensor& q, const Tensor& k, const Tensor& v,
                                const AttentionSpec& spec, const Tensor& sinks) {
  const int64_t group = q.size(1) / k.size(1);
  const Tensor keys = k.repeat_interleave(group, 1).transpose(0, 1),
               values = v.repeat_interleave(group, 1).transpose(0, 1);
  Tensor scores = at::matmul(q.transpose(0, 1), keys.transpose(1, 2)) * spec.scale;
  if (spec.softcap > 0) scores = spec.softcap * (scores / spec.softcap).tanh();
  const Tensor mask = visible(q.size(0), k.size(0), spec);
  scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  if (sinks.defined()) {
    scores = at::cat({scores, sinks.view({-1, 1, 1}).expand({q.size(1), q.size(0), 1})}, 2);
  }
  const Tensor lse = scores.size(2) == 0 ? at::full({q.size(1), q.size(0)}, -HUGE_VAL, q.options())
                                         : scores.logsumexp(2);
  const Tensor finite = lse.masked_fill(lse.eq(-HUGE_VAL), 0);
  const Tensor probability = (scores - finite.unsqueeze(2)).exp().slice(2, 0, k.size(0));
  return {at::matmul(probability, values).transpose(0, 1), lse};
}

struct Case {
  std::string name;
  int64_t heads = 4, kv_heads = 2, width = 16, value_width = 16;
  Lengths queries, keys;  // keys empty: as queries
  AttentionSpec spec{0.3};
  bool sinks = false;
};

void expect_case(const Case& c, at::ScalarType dtype) {
  const Lengths cu_q = offsets(c.queries), cu_k = offsets(c.keys.empty() ? c.queries : c.keys);
  auto spec_with = [&](const Tensors& t) {
    AttentionSpec spec = c.spec;
    if (c.sinks) spec.sinks_H = t[3];
    return spec;
  };
  const Op ours = [&](const Tensors& t) {
    return varlen_attention(t[0], t[1], t[2], cu_q, cu_k, spec_with(t)).out_THK;
  };
  auto by_segment = [&](const Tensors& t) {
    std::vector<Tensor> out = {t[2].new_zeros({0, c.heads, c.value_width})},
                        lse = {t[0].new_zeros({c.heads, 0})};
    for (size_t i = 0; i + 1 < cu_q.size(); ++i) {
      const auto [o, l] =
          dense(t[0].slice(0, cu_q[i], cu_q[i + 1]), t[1].slice(0, cu_k[i], cu_k[i + 1]),
                t[2].slice(0, cu_k[i], cu_k[i + 1]), c.spec, c.sinks ? t[3] : Tensor());
      out.push_back(o);
      lse.push_back(l);
    }
    return std::pair(at::cat(out), at::cat(lse, 1));
  };
  Tensors inputs = {normal({cu_q.back(), c.heads, c.width}, 1),
                    normal({cu_k.back(), c.kv_heads, c.width}, 2),
                    normal({cu_k.back(), c.kv_heads, c.value_width}, 3)};
  if (c.sinks) inputs.push_back(normal({c.heads}, 4));
  expect_same(
      ours, [&](const Tensors& t) { return by_segment(t).first; }, inputs, dtype, c.name);

  const at::NoGradGuard no_grad;
  Tensors rounded, narrow;
  for (const Tensor& x : inputs) {
    narrow.push_back(x.to(dtype));
    rounded.push_back(narrow.back().to(at::kDouble));
  }
  const Tensor expected = by_segment(rounded).second, unseen = expected.eq(-HUGE_VAL);
  // lse is a sum over exact products in acc, in bfloat16 too.
  const double bound = dtype == at::kDouble ? 1e-12 : 1e-5;
  at_every_level([&] {
    const Tensor lse =
        varlen_attention(narrow[0], narrow[1], narrow[2], cu_q, cu_k, spec_with(narrow)).lse_HT;
    EXPECT_TRUE(at::equal(lse.eq(-HUGE_VAL), unseen)) << c.name;
    EXPECT_LE(relative_error(lse.masked_fill(unseen, 0), expected.masked_fill(unseen, 0)), bound)
        << c.name << ": lse";
  });
}

AttentionSpec spec(bool causal, int64_t left = -1, int64_t right = -1, double softcap = 0) {
  AttentionSpec s{0.3};
  s.causal = causal;
  s.window_left = left;
  s.window_right = right;
  s.softcap = softcap;
  return s;
}

/// Scores so far apart that a softmax must be made relative to the highest.
AttentionSpec steep(bool causal) {
  AttentionSpec s = spec(causal);
  s.scale = 2;
  return s;
}
AttentionSpec falling() {
  AttentionSpec s = spec(true);
  s.scale = -0.3;
  return s;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int64_t width : {8, 16, 64, 128}) {
    all.push_back(
        {"width " + std::to_string(width), 4, 2, width, width, {1, 7, 33, 130}, {}, spec(true)});
  }
  for (const int64_t group : {1, 2, 4, 8}) {
    all.push_back(
        {"group " + std::to_string(group), 8, 8 / group, 16, 16, {50, 3}, {}, spec(true)});
  }
  for (const int64_t width : {2, 40, 72, 80}) {
    all.push_back({"ragged width " + std::to_string(width),
                   2,
                   1,
                   width,
                   width,
                   {1, 33, 130},
                   {},
                   spec(true)});
  }
  for (const int32_t length : {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65, 95, 96, 97}) {
    for (const bool causal : {false, true}) {
      all.push_back({(causal ? "causal length " : "length ") + std::to_string(length),
                     2,
                     1,
                     64,
                     64,
                     {length},
                     {},
                     spec(causal)});
    }
  }
  all.push_back({"keys wider than values", 4, 1, 80, 48, {33, 300}, {}, spec(false), true});
  all.push_back({"window over tiles", 2, 1, 32, 32, {600}, {}, spec(true, 217)});
  all.push_back({"many unseen rows", 4, 2, 32, 32, {200}, {70}, spec(true)});
  all.push_back({"steep", 2, 1, 64, 64, {600}, {}, steep(true)});
  all.push_back({"steep, sinks", 4, 2, 64, 64, {40, 300}, {70, 300}, steep(true), true});
  all.push_back({"falling", 2, 1, 64, 64, {70}, {}, falling()});
  all.push_back({"long", 2, 1, 64, 64, {700, 401}, {}, spec(true)});
  all.push_back({"long not causal", 2, 1, 64, 64, {500}, {}, spec(false)});
  all.push_back({"odd widths", 2, 1, 24, 40, {33, 65}, {}, spec(true)});
  all.push_back({"values wider", 4, 2, 16, 72, {33, 65}, {}, spec(false)});
  all.push_back({"empty segments", 2, 1, 16, 16, {0, 5, 0, 0, 9, 0}, {}, spec(true)});
  all.push_back({"cache", 4, 2, 16, 16, {1, 3, 50}, {100, 64, 81}, spec(true)});
  all.push_back({"more queries than keys", 2, 1, 16, 16, {9, 70}, {4, 33}, spec(true)});
  all.push_back({"queries without keys", 2, 1, 16, 16, {5, 6, 0}, {7, 0, 4}, spec(true)});
  all.push_back({"cross", 4, 4, 16, 16, {40, 7}, {13, 90}, spec(false)});
  all.push_back({"window", 4, 2, 16, 16, {150, 33}, {}, spec(true, 20)});
  all.push_back({"window of itself", 2, 1, 16, 16, {150, 33}, {}, spec(true, 0)});
  all.push_back({"two-sided window", 4, 2, 16, 16, {450, 33}, {}, spec(false, 17, 5)});
  all.push_back({"right window", 2, 1, 16, 16, {450, 33}, {}, spec(false, -1, 40)});
  all.push_back({"softcap", 4, 2, 16, 16, {90, 33}, {}, spec(true, -1, -1, 1.5)});
  all.push_back({"sinks", 4, 2, 16, 16, {90, 33}, {}, spec(true), true});
  all.push_back(
      {"sinks, window, softcap", 4, 2, 16, 16, {90, 5}, {70, 40}, spec(true, 30, -1, 2), true});
  return all;
}

class Attention : public ::testing::TestWithParam<Case> {};

TEST_P(Attention, MatchesDenseAttention) {
  for (const at::ScalarType dtype : kDtypes) expect_case(GetParam(), dtype);
}

INSTANTIATE_TEST_SUITE_P(All, Attention, ::testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.name;
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
});

TEST(AttentionCalls, NoTokens) {
  auto t = leaves({at::empty({0, 4, 16}), at::empty({0, 2, 16}), at::empty({0, 2, 8})}, at::kFloat);
  const Outcome outcome = run(
      [](const Tensors& t) { return varlen_attention(t[0], t[1], t[2], {0}, {0}, {0.3}).out_THK; },
      t, at::empty({0, 4, 8}));
  EXPECT_EQ(outcome.y.sizes(), (at::IntArrayRef{0, 4, 8}));
  EXPECT_EQ(outcome.grads[2].sizes(), (at::IntArrayRef{0, 2, 8}));
}

TEST(AttentionCalls, LseCarriesNoGradientAndFrozenInputsGetNone) {
  auto t = leaves({normal({9, 2, 8}, 1), normal({9, 2, 8}, 2), normal({9, 2, 8}, 3)}, at::kFloat);
  const AttentionResult result = varlen_attention(t[0].detach(), t[1], t[2], {0, 9}, {0, 9}, {0.3});
  EXPECT_FALSE(result.lse_HT.requires_grad());
  result.out_THK.sum().backward();
  EXPECT_FALSE(t[0].grad().defined());
  EXPECT_TRUE(t[1].grad().defined());
}

TEST(AttentionCalls, ReadsStridedInputs) {
  const Tensor fused = normal({20, 4, 8}, 1);
  const Op ours = [](const Tensors& t) {
    return varlen_attention(t[0].slice(1, 0, 2), t[0].slice(1, 2, 3), t[0].slice(1, 3, 4), {0, 20},
                            {0, 20}, {0.3})
        .out_THK;
  };
  const Op reference = [](const Tensors& t) {
    return dense(t[0].slice(1, 0, 2), t[0].slice(1, 2, 3), t[0].slice(1, 3, 4), {0.3}, {}).first;
  };
  expect_same(ours, reference, {fused}, at::kDouble, "fused qkv");
}

// One position at a time against a growing cache gives what the whole sequence gives.
TEST(AttentionCalls, DecodingEqualsTheWholeSequence) {
  const Tensor q = normal({40, 4, 16}, 1), k = normal({40, 2, 16}, 2), v = normal({40, 2, 16}, 3);
  const Tensor whole = varlen_attention(q, k, v, {0, 40}, {0, 40}, {0.3}).out_THK;
  for (const int t : {0, 1, 17, 39}) {
    const Tensor one = varlen_attention(q.slice(0, t, t + 1), k.slice(0, 0, t + 1),
                                        v.slice(0, 0, t + 1), {0, 1}, {0, t + 1}, {0.3})
                           .out_THK;
    EXPECT_LE(relative_error(one, whole.slice(0, t, t + 1)), 1e-13);
  }
}

TEST(AttentionCalls, NanStaysInItsSegment) {
  for (const at::ScalarType dtype : kDtypes) {
    Tensor q = normal({40, 2, 16}, 1).to(dtype);
    const Tensor k = normal({40, 2, 16}, 2).to(dtype), v = normal({40, 2, 16}, 3).to(dtype);
    q[30][1].fill_(std::nan(""));
    at_every_level([&] {
      const Tensor out = varlen_attention(q, k, v, {0, 20, 40}, {0, 20, 40}, {0.3}).out_THK;
      EXPECT_TRUE(at::isnan(out[30][1]).all().item<bool>());
      EXPECT_TRUE(at::isfinite(out.slice(0, 0, 30)).all().item<bool>());
    });
  }
}

// Tasks write their own outputs; with splits, dk and dv are summed in another order.
TEST(AttentionCalls, ThreadsDoNotMatter) {
  const int before = at::get_num_threads();
  for (const at::ScalarType dtype : kDtypes) {
    const Tensors values = {normal({500, 4, 40}, 1), normal({500, 2, 40}, 2),
                            normal({500, 2, 24}, 3)};
    const Tensor cotangent = normal({500, 4, 24}, 4);
    const Op op = [](const Tensors& t) {
      return varlen_attention(t[0], t[1], t[2], {0, 333, 500}, {0, 333, 500}, spec(true)).out_THK;
    };
    at_every_level([&] {
      at::set_num_threads(1);
      const Outcome one = run(op, leaves(values, dtype), cotangent.to(dtype));
      at::set_num_threads(3);
      const Outcome three = run(op, leaves(values, dtype), cotangent.to(dtype));
      EXPECT_TRUE(at::equal(one.y, three.y));
      for (size_t i = 0; i < one.grads.size(); ++i)
        EXPECT_TRUE(at::equal(one.grads[i], three.grads[i])) << i;
    });
  }
  at::set_num_threads(before);
}

TEST(AttentionCalls, RefuseWhatDoesNotFit) {
  const Tensor q = at::ones({4, 4, 8}), k = at::ones({4, 2, 8});
  EXPECT_THROW(varlen_attention(q, k, k, {0, 3}, {0, 4}, {1}), Error);
  EXPECT_THROW(varlen_attention(q, k, k, {0, 3, 2, 4}, {0, 1, 2, 4}, {1}), Error);
  EXPECT_THROW(varlen_attention(q, k, k, {0, 4}, {0, 2, 4}, {1}), Error);
  EXPECT_THROW(varlen_attention(q, k, k, {}, {}, {1}), Error);
  EXPECT_THROW(varlen_attention(q, at::ones({4, 3, 8}), at::ones({4, 3, 8}), {0, 4}, {0, 4}, {1}),
               Error);
  EXPECT_THROW(varlen_attention(q, k.to(at::kDouble), k, {0, 4}, {0, 4}, {1}), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
