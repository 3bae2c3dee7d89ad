// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/grouped_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <numeric>

#include "reference.h"
#include "veomni/base/error.h"
#include "veomni/ops/linear.h"

namespace veomni::ops::testing {
namespace {

using Rows = std::vector<int64_t>;

/// The offsets of groups of so many rows.
Tensor offsets_of(const Rows& rows) {
  Tensor offsets = at::zeros({static_cast<int64_t>(rows.size()) + 1}, at::kLong);
  for (size_t e = 0; e < rows.size(); ++e)
    offsets[static_cast<int64_t>(e) + 1] = offsets[static_cast<int64_t>(e)] + rows[e];
  return offsets;
}

Op ours(const Rows& rows) {
  return [offsets = offsets_of(rows)](const Tensors& t) {
    return ops::grouped_linear(t[0], t[1], offsets);
  };
}

Op reference(const Rows& rows) {
  return [rows](const Tensors& t) {
    Tensors parts;
    int64_t begin = 0;
    for (size_t e = 0; e < rows.size(); begin += rows[e++]) {
      const auto group = static_cast<int64_t>(e);
      parts.push_back(at::matmul(t[0].narrow(0, begin, rows[e]), t[1][group].t()));
    }
    return at::cat(parts);
  };
}

Tensors inputs(const Rows& rows, int64_t d, int64_t n) {
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  return {normal({total, d}, 1), normal({static_cast<int64_t>(rows.size()), n, d}, 2)};
}

std::string name_of(const Rows& rows, int64_t d, int64_t n) {
  return ::testing::PrintToString(rows) + " rows, " + std::to_string(d) + " -> " +
         std::to_string(n);
}

/// Sets the backend until the scope ends.
class ForceBackend {
 public:
  explicit ForceBackend(LinearBackend backend) : before_(linear_backend()) {
    set_linear_backend(backend);
  }
  ~ForceBackend() { set_linear_backend(before_); }
  ForceBackend(const ForceBackend&) = delete;
  ForceBackend& operator=(const ForceBackend&) = delete;

 private:
  LinearBackend before_;
};

class GroupedLinearBackends : public ::testing::TestWithParam<LinearBackend> {
 protected:
  const ForceBackend force_{GetParam()};
};

TEST_P(GroupedLinearBackends, MatchesAProductForEachGroup) {
  const std::vector<std::pair<Rows, std::array<int64_t, 2>>> cases = {
      {{5}, {8, 8}},                       // one group
      {{0, 3, 0, 0, 40, 1, 0}, {24, 33}},  // none in the first, in some and in the last
      {{0, 0, 67, 0}, {72, 24}},           // all rows in one
      {{1, 1, 1, 1, 1}, {33, 65}},         // a row each
      {{13, 50, 2, 31}, {65, 37}},         // odd sizes
      {{0, 0}, {8, 4}},                    // no rows
      {{3, 0, 4}, {0, 5}},                 // no terms
  };
  for (const auto& [rows, sizes] : cases) {
    const auto [d, n] = sizes;
    for (const at::ScalarType dtype : kDtypes)
      expect_same(ours(rows), reference(rows), inputs(rows, d, n), dtype, name_of(rows, d, n));
  }
}

INSTANTIATE_TEST_SUITE_P(All, GroupedLinearBackends,
                         ::testing::Values(LinearBackend::kAuto, LinearBackend::kOneDnn,
                                           LinearBackend::kBlas, LinearBackend::kOwn));

// What the kernel treats apart: several tasks a group along rows and columns, several blocks of terms (beyond 512, 1024, 2048 by
// dtype), of the depth and, for weights, of a group's rows, with sums that wait for them (bfloat16), and results that are written
// past the caches (beyond 4 MiB).
TEST(GroupedLinear, OwnKernelsMatchWhereTheirWalkDiffers) {
  const ForceBackend own(LinearBackend::kOwn);
  for (const auto& [rows, d, n] :
       std::vector<std::tuple<Rows, int64_t, int64_t>>{{{250, 3, 517}, 96, 544},
                                                       {{0, 70, 5}, 2049, 40},
                                                       {{2100, 9}, 40, 72},
                                                       {{30, 600}, 2080, 192}}) {
    for (const at::ScalarType dtype : kDtypes)
      expect_same(ours(rows), reference(rows), inputs(rows, d, n), dtype, name_of(rows, d, n));
  }
  const Rows rows = {900, 1148};
  expect_same(ours(rows), reference(rows), inputs(rows, 64, 1088), at::kBFloat16,
              name_of(rows, 64, 1088));
}

TEST(GroupedLinear, OneGroupIsLinearToTheLastBit) {
  for (const LinearBackend backend :
       {LinearBackend::kAuto, LinearBackend::kOneDnn, LinearBackend::kBlas, LinearBackend::kOwn}) {
    const ForceBackend force(backend);
    for (const at::ScalarType dtype : kDtypes) {
      for (const auto& [t, d, n] : std::vector<std::array<int64_t, 3>>{
               {1, 40, 33}, {67, 300, 270}, {130, 2300, 65}, {2100, 33, 37}}) {
        SCOPED_TRACE(std::to_string(static_cast<int>(backend)) + ": " + std::to_string(t) + "x" +
                     std::to_string(d) + "x" + std::to_string(n));
        const Tensor x = normal({t, d}, 1), weight = normal({n, d}, 2),
                     dy = normal({t, n}, 3).to(dtype);
        at_every_level([&, t = t] {
          const Outcome one = run(ours({t}), leaves({x, weight.unsqueeze(0)}, dtype), dy);
          const Outcome same = run([](const Tensors& in) { return ops::linear(in[0], in[1]); },
                                   leaves({x, weight}, dtype), dy);
          EXPECT_TRUE(at::equal(one.y, same.y));
          EXPECT_TRUE(at::equal(one.grads[0], same.grads[0]));
          EXPECT_TRUE(at::equal(one.grads[1][0], same.grads[1]));
        });
      }
    }
  }
}

/// Bits of all results.
void expect_equal(const Outcome& a, const Outcome& b, const char* what) {
  EXPECT_TRUE(at::equal(a.y, b.y)) << what;
  for (size_t i = 0; i < a.grads.size(); ++i)
    EXPECT_TRUE(at::equal(a.grads[i], b.grads[i])) << what << ", gradient " << i;
}

TEST(GroupedLinear, ResultsDependNeitherOnThreadsNorOnOtherGroups) {
  const ForceBackend own(LinearBackend::kOwn);
  const Rows rows = {300, 0, 7, 1, 450, 33};
  const int64_t d = 160, n = 290;
  const Tensors values = inputs(rows, d, n);
  for (const at::ScalarType dtype : kDtypes) {
    at_every_level([&] {
      const Tensor dy = normal({values[0].size(0), n}, 3).to(dtype);
      const int before = at::get_num_threads();
      at::set_num_threads(1);
      const Outcome one = run(ours(rows), leaves(values, dtype), dy);
      for (const int threads : {2, 5, 16}) {
        at::set_num_threads(threads);
        expect_equal(run(ours(rows), leaves(values, dtype), dy), one,
                     std::to_string(threads).append(" threads").c_str());
      }
      at::set_num_threads(before);
      // Each group by itself.
      int64_t begin = 0;
      for (size_t e = 0; e < rows.size(); begin += rows[e++]) {
        const auto group = static_cast<int64_t>(e);
        const Outcome alone =
            run(ours({rows[e]}),
                leaves({values[0].narrow(0, begin, rows[e]), values[1].narrow(0, group, 1)}, dtype),
                dy.narrow(0, begin, rows[e]));
        EXPECT_TRUE(at::equal(alone.y, one.y.narrow(0, begin, rows[e]))) << "group " << e;
        EXPECT_TRUE(at::equal(alone.grads[0], one.grads[0].narrow(0, begin, rows[e])));
        EXPECT_TRUE(at::equal(alone.grads[1][0], one.grads[1][group]));
      }
    });
  }
}

// Where groups begin changes no row's result, as long as the weight is the same.
TEST(GroupedLinear, ARowDoesNotKnowItsGroupsSize) {
  const ForceBackend own(LinearBackend::kOwn);
  const Tensor x = normal({95, 80}, 1), weight = normal({1, 70, 80}, 2).expand({4, 70, 80});
  for (const at::ScalarType dtype : kDtypes) {
    at_every_level([&] {
      const auto y = [&](const Rows& rows) { return ours(rows)({x.to(dtype), weight.to(dtype)}); };
      const Tensor whole = y({0, 95, 0, 0});
      EXPECT_TRUE(at::equal(y({1, 2, 80, 12}), whole));
      EXPECT_TRUE(at::equal(y({31, 33, 1, 30}), whole));
    });
  }
}

TEST(GroupedLinear, NanStaysInItsGroup) {
  for (const LinearBackend backend : {LinearBackend::kAuto, LinearBackend::kOwn}) {
    const ForceBackend force(backend);
    for (const at::ScalarType dtype : kDtypes) {
      at_every_level([&] {
        const Rows rows = {7, 0, 5, 40};
        Tensors values = inputs(rows, 24, 33);
        values[0][8][3].fill_(std::nan(""));     // a row of group 2
        values[1][1][2][2].fill_(std::nan(""));  // the weight of the empty group 1
        const Outcome got = run(ours(rows), leaves(values, dtype), at::ones({52, 33}));
        EXPECT_TRUE(at::isnan(got.y[8]).all().item<bool>());
        EXPECT_EQ(at::isnan(got.y).sum().item<int64_t>(), 33);
        EXPECT_FALSE(at::isnan(got.grads[0]).any().item<bool>());
        EXPECT_TRUE(at::isnan(got.grads[1][2].select(1, 3)).all().item<bool>());
        EXPECT_EQ(at::isnan(got.grads[1]).sum().item<int64_t>(), 33);
        EXPECT_TRUE(at::equal(got.grads[1][1], at::zeros_like(got.grads[1][1])));
      });
    }
  }
}

TEST(GroupedLinear, ReadsStridedInputsAndOffsetsOfEitherWidth) {
  const Rows rows = {4, 0, 11};
  const Tensor x = normal({16, 15}, 1).t(), weight = normal({16, 3, 9}, 2).permute({1, 2, 0});
  expect_same(ours(rows), reference(rows), {x, weight}, at::kDouble, "strided");
  const Tensor wide = at::stack({offsets_of(rows), offsets_of(rows)}, 1).select(1, 0);
  ASSERT_FALSE(wide.is_contiguous());
  const Tensor y = ops::grouped_linear(x, weight, wide);
  EXPECT_TRUE(at::equal(ops::grouped_linear(x, weight, wide.to(at::kInt)), y));
}

TEST(GroupedLinear, FrozenInputsGetNoGradient) {
  const Tensor offsets = offsets_of({2, 3});
  const Tensors in = leaves(inputs({2, 3}, 8, 4), at::kFloat);
  const Tensor frozen_weight = in[1].detach(), data = in[0].detach();
  ops::grouped_linear(in[0], frozen_weight, offsets).sum().backward();
  EXPECT_TRUE(in[0].grad().defined());
  EXPECT_FALSE(frozen_weight.grad().defined());
  ops::grouped_linear(data, in[1], offsets).sum().backward();
  EXPECT_TRUE(in[1].grad().defined());
  EXPECT_FALSE(ops::grouped_linear(data, frozen_weight, offsets).requires_grad());
}

// 4096 equal terms of 1 + 2^-7: a bfloat16 sum would stall, a bfloat16 result could not hold the
// total.
TEST(GroupedLinear, BFloat16WeightGradientIsFloatAccumulatedAndUnrounded) {
  const Tensors in =
      leaves({at::full({4099, 8}, 1.0 + 1.0 / 128), at::ones({2, 3, 8})}, at::kBFloat16);
  run(ours({3, 4096}), in, at::ones({4099, 3}));
  ASSERT_EQ(in[1].grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(in[1].grad()[1], at::full({3, 8}, 4096 + 32.0, at::kFloat)));
}

TEST(GroupedLinear, RunsOnMetaWithOffsetsOnTheCpu) {
  for (const LinearBackend backend : {LinearBackend::kBlas, LinearBackend::kOwn}) {
    const ForceBackend force(backend);
    const auto meta = at::device(at::kMeta).dtype(at::kBFloat16);
    const Tensor x = at::empty({9, 8}, meta).set_requires_grad(true);
    Tensor weight = at::empty({2, 4, 8}, meta).set_requires_grad(true);
    weight.set_grad_dtype(at::kFloat);
    const Tensor y = ops::grouped_linear(x, weight, offsets_of({9, 0}));
    EXPECT_EQ(y.sizes(), (at::IntArrayRef{9, 4}));
    torch::autograd::backward({y}, {at::empty_like(y)});
    EXPECT_EQ(x.grad().sizes(), x.sizes());
    EXPECT_EQ(weight.grad().sizes(), weight.sizes());
    EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
  }
}

/// What the call says when it throws.
std::string error_of(const Tensor& x, const Tensor& weight, const Tensor& offsets) {
  try {
    ops::grouped_linear(x, weight, offsets);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(GroupedLinear, ErrorsNameWhatDoesNotFit) {
  using ::testing::HasSubstr;
  const Tensor x = at::ones({5, 8}), weight = at::ones({2, 4, 8}), good = offsets_of({2, 3});
  const auto list = [](std::vector<int64_t> values) { return at::tensor(values, at::kLong); };
  EXPECT_THAT(error_of(x, at::ones({2, 4, 7}), good),
              HasSubstr("x [T, D] = [5, 8] does not fit weight [E, N, D] = [2, 4, 7]"));
  EXPECT_THAT(error_of(x, at::ones({4, 8}), good), HasSubstr("weight [E, N, D] = [4, 8]"));
  EXPECT_THAT(error_of(at::ones({1, 5, 8}), weight, good), HasSubstr("x [T, D] = [1, 5, 8]"));
  EXPECT_THAT(error_of(at::ones({0, 8}), at::ones({0, 4, 8}), list({0})),
              HasSubstr("E must be at least 1"));
  EXPECT_THAT(error_of(x, weight.to(at::kDouble), good),
              HasSubstr("x is Float on cpu but weight is Double on cpu"));
  EXPECT_THAT(error_of(x.to(at::kHalf), weight.to(at::kHalf), good),
              HasSubstr("dtype Half has no kernels"));
  EXPECT_THAT(error_of(x, weight, list({0, 5})),
              HasSubstr("offsets [2] do not fit weight with 2 groups; they must be [E + 1] = [3]"));
  EXPECT_THAT(error_of(x, weight, {}), HasSubstr("they must be [E + 1] = [3]"));
  EXPECT_THAT(error_of(x, weight, good.to(at::kFloat)),
              HasSubstr("offsets are Float; they must be int64 or int32"));
  EXPECT_THAT(error_of(x, weight, good.to(at::kMeta)),
              HasSubstr("offsets are on meta; they must be on the cpu"));
  EXPECT_THAT(error_of(x, weight, list({0, 2, 4})),
              HasSubstr("offsets run from 0 to 4; they must run from 0 to the 5 rows of x"));
  EXPECT_THAT(error_of(x, weight, list({1, 2, 5})), HasSubstr("offsets run from 1 to 5"));
  EXPECT_THAT(error_of(x, weight, list({0, 6, 5})),
              HasSubstr("offsets[2] = 5 is below the one before, 6"));
}

TEST(GroupedLinear, RefusesSecondDerivatives) {
  const Tensors in = leaves(inputs({2, 3}, 8, 4), at::kFloat);
  const Tensor loss = ours({2, 3})(in).sum();
  EXPECT_THROW(torch::autograd::grad({loss}, {in[0]}, {}, true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
