// SPDX-License-Identifier: Apache-2.0
#include "reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace veomni {
namespace {

/// Values of rank r with signs, tiny and huge ones, infinities and NaN.
torch::Tensor values(int r, int64_t n, torch::ScalarType dtype) {
  auto x = torch::arange(n, torch::kFloat).mul(0.7f + r).sin().mul(1 + r * 1e3);
  if (n > 40) {
    x[7] = std::numeric_limits<float>::infinity();
    x[8] = r % 2 ? NAN : 1.f;
    x[9] = 3.3e38f;
    x[10] = 1e-40f;
  }
  return x.to(dtype);
}

/// Adds in order and rounds once, with libtorch's arithmetic.
torch::Tensor expected_sum(int count, int64_t n, torch::ScalarType in, torch::ScalarType out) {
  auto sum = values(0, n, in).to(torch::kFloat);
  for (int r = 1; r < count; ++r) sum += values(r, n, in).to(torch::kFloat);
  return sum.to(out);
}

bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  return torch::equal(torch::nan_to_num(a.to(torch::kDouble), 1e300),
                      torch::nan_to_num(b.to(torch::kDouble), 1e300));
}

TEST(Reduce, SumsInOrderWhateverTheLength) {
  for (auto dtype : {torch::kFloat, torch::kBFloat16}) {
    for (auto out_dtype : {dtype, torch::kFloat}) {
      for (int count : {1, 2, 3, 5, 70}) {
        for (int64_t n : {1, 15, 63, 2048, 2049, 5000}) {
          std::vector<torch::Tensor> kept;
          std::vector<const void*> ins;
          for (int r = 0; r < count; ++r) {
            kept.push_back(values(r, n, dtype));
            ins.push_back(kept[r].data_ptr());
          }
          auto out = torch::empty({n}, out_dtype);
          reduce_buffers(out.data_ptr(), out_dtype, ins, dtype, n, ReduceOp::kSum);
          EXPECT_TRUE(same_bits(out, expected_sum(count, n, dtype, out_dtype)))
              << dtype << " -> " << out_dtype << ", " << count << " of " << n;
        }
      }
    }
  }
}

TEST(Reduce, RoundsEveryBfloat16SumAsLibtorch) {
  // All 65536 values, each beside others: subnormal, infinite and NaN ones among ordinary ones.
  auto a = torch::arange(65536, torch::kInt).to(torch::kShort).view(torch::kBFloat16);
  for (int64_t shift : {0, 1, 127, 128, 32768, 40001}) {
    auto b = a.roll(shift), out = torch::empty_like(a);
    reduce_buffers(out.data_ptr(), torch::kBFloat16, {a.data_ptr(), b.data_ptr()}, torch::kBFloat16,
                   a.numel(), ReduceOp::kSum);
    const auto want = (a.to(torch::kFloat) + b.to(torch::kFloat)).to(torch::kBFloat16);
    const auto same = out.view(torch::kShort) == want.view(torch::kShort);
    EXPECT_TRUE((same | (out.isnan() & want.isnan())).all().item<bool>()) << shift;
  }
}

TEST(Reduce, TheResultMayReplaceAnyInput) {
  for (auto dtype : {torch::kFloat, torch::kBFloat16}) {
    for (int count : {2, 4}) {
      for (int place = 0; place < count; ++place) {
        std::vector<torch::Tensor> kept;
        std::vector<const void*> ins;
        for (int r = 0; r < count; ++r) {
          kept.push_back(values(r, 5000, dtype));
          ins.push_back(kept[r].data_ptr());
        }
        reduce_buffers(kept[place].data_ptr(), dtype, ins, dtype, 5000, ReduceOp::kSum);
        EXPECT_TRUE(same_bits(kept[place], expected_sum(count, 5000, dtype, dtype)));
      }
    }
  }
}

}  // namespace
}  // namespace veomni
