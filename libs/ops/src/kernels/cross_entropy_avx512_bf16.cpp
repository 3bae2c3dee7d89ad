// SPDX-License-Identifier: Apache-2.0
#include "kernels/avx512_bf16.h"
#include "kernels/bf16_kernels.h"
#include "kernels/cross_entropy_rows.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// One row of logits; columns past the last are -infinity and are not written.
class Row {
 public:
  Row(bf16* logits, int64_t width) : logits_(logits), width_(width) {}

  void add(const bf16* bias) const {
    for (int64_t j = 0; j < width_; ++j)
      logits_[j] = narrow<bf16>(wide(logits_[j]) + wide(bias[j]));
  }

  float sum_of_exponentials(float top) const {
    const __m512 shift = _mm512_set1_ps(top * kLog2E);
    __m512 first = _mm512_setzero_ps(), second = first;
    for (int64_t j = 0; j < width_; j += kColumns) {
      const Two x = read(j);
      first = _mm512_add_ps(first, exponential(x.left, shift));
      second = _mm512_add_ps(second, exponential(x.right, shift));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(first, second));
  }

  /// Every logit becomes exp(logit - top) · scale.
  void to_probabilities(float top, float scale) const {
    const __m512 shift = _mm512_set1_ps(top * kLog2E), factor = _mm512_set1_ps(scale);
    for (int64_t j = 0; j < width_; j += kColumns) {
      const Two x = read(j);
      const __m512 left = _mm512_mul_ps(exponential(x.left, shift), factor),
                   right = _mm512_mul_ps(exponential(x.right, shift), factor);
      _mm512_mask_storeu_epi16(logits_ + j, mask_at(j), (__m512i)_mm512_cvtne2ps_pbh(right, left));
    }
  }

 private:
  struct Two {
    __m512 left, right;
  };
  __mmask32 mask_at(int64_t j) const { return column_mask(0, width_ - j); }

  Two read(int64_t j) const {
    const __m512i lowest = _mm512_set1_epi16(static_cast<int16_t>(0xff80));
    const __m512i x = _mm512_mask_loadu_epi16(lowest, mask_at(j), logits_ + j);
    return {widened(_mm512_castsi512_si256(x)), widened(_mm512_extracti64x4_epi64(x, 1))};
  }
  /// shift: in powers of 2.
  static __m512 exponential(__m512 x, __m512 shift) {
    return exp2_512(_mm512_fmsub_ps(x, _mm512_set1_ps(kLog2E), shift));
  }
  static __m512 widened(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }

  bf16* logits_;
  int64_t width_;
};

}  // namespace

void run(const CrossEntropy& a) { cross_entropy<Row, bf16>(a); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
