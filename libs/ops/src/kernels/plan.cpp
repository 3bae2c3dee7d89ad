// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/args.h"
#include "kernels/attention_plan.h"
#include "kernels/convolve_plan.h"
#include "kernels/matmul_plan.h"

namespace veomni::ops::kernels {
namespace {

int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }
int64_t round_up(int64_t n, int64_t step) { return ceil_div(n, step) * step; }

/// Threads worth waking for `work` multiply-adds: below a quarter million each, waking costs more
/// than it saves.
int64_t useful_threads(int64_t work, int64_t threads) {
  return std::clamp<int64_t>(work >> 18, 1, threads);
}

constexpr int64_t kMaxRows = 240, kMaxColumns = 256, kMaxDepth = 256;

// 128 KiB in float32: a band of x and one of dout stay in a core's L2 cache beside the weight.
constexpr int64_t kBandElements = 32 << 10;

}  // namespace

MatMulPlan plan_matmul(int64_t m, int64_t n, int64_t k, int threads) {
  MatMulPlan plan;
  plan.row_blocks = ceil_div(m, kMaxRows);
  plan.rows = m ? round_up(ceil_div(m, plan.row_blocks), kRowMultiple) : 0;
  plan.column_blocks = ceil_div(n, kMaxColumns);
  plan.columns = n ? round_up(ceil_div(n, plan.column_blocks), kColumnMultiple) : 0;
  plan.row_blocks = m ? ceil_div(m, plan.rows) : 0;
  plan.column_blocks = n ? ceil_div(n, plan.columns) : 0;
  plan.depth = std::min(k, kMaxDepth);
  plan.threads =
      useful_threads(m * n * k, std::min<int64_t>(threads, std::max<int64_t>(1, plan.tasks())));
  return plan;
}

int64_t matmul_workspace(int64_t m, int64_t n, int64_t k, int threads) {
  const MatMulPlan plan = plan_matmul(m, n, k, threads);
  return plan.threads * plan.workspace_per_thread();
}

ConvolvePlan plan_convolve(const ConvolveShape& s, int threads) {
  ConvolvePlan plan;
  plan.line = s.out_width + s.kernel_w - 1;
  const int64_t line_elements = plan.line * std::max<int64_t>({s.channels, s.features, 1});
  const int64_t most = std::clamp<int64_t>(kBandElements / line_elements, 1, s.out_height);
  plan.bands = ceil_div(s.out_height, most);
  plan.lines = ceil_div(s.out_height, plan.bands);
  plan.bands = ceil_div(s.out_height, plan.lines);
  plan.padded_features = round_up(s.features, kColumnMultiple);
  plan.gradient_rows = round_up(s.features, kRowMultiple);
  plan.gradient_columns = round_up(s.kernel_w * s.channels, kColumnMultiple);
  // Tiles read past the last window and past the last channel.
  plan.band_elements =
      ((plan.lines + s.kernel_h - 1) * plan.line + kRowMultiple + s.kernel_w) * s.channels +
      4 * kColumnMultiple;
  plan.weight_elements = s.kernel_h * s.kernel_w * s.channels * plan.padded_features;
  const int64_t pixels = s.pictures * s.out_height * s.out_width;
  plan.threads = useful_threads(pixels * s.kernel_h * s.kernel_w * s.channels * s.features,
                                std::min<int64_t>(threads, std::max<int64_t>(1, plan.tasks(s))));
  return plan;
}

int64_t ConvolvePlan::forward_scratch() const {
  return band_elements + kRowMultiple * padded_features;
}

bool fits_convolve(const ConvolveShape& s) {
  // Rows of a tile that lie whole pages apart would fall into the same few lines of the cache.
  constexpr int64_t kMaxChannels = 512;
  const int64_t line = s.out_width + s.kernel_w - 1;
  return s.channels <= kMaxChannels &&
         line * s.kernel_h * std::max(s.channels, s.features) <= 2 * kBandElements;
}

int64_t convolve_workspace(const ConvolveShape& s, int threads) {
  const ConvolvePlan plan = plan_convolve(s, threads);
  return plan.weight_elements + plan.threads * plan.forward_scratch();
}

int64_t convolve_weight_workspace(const ConvolveShape& s, int threads) {
  const ConvolvePlan plan = plan_convolve(s, threads);
  return std::min(kConvolveSums, plan.tasks(s)) * plan.gradient_elements(s) +
         std::min(kConvolveSums, plan.threads) * plan.gradient_scratch();
}

int64_t nearest_code_workspace(int64_t codes, int64_t width) {
  return round_up(codes, kColumnMultiple) * width;
}

AttentionPlan plan_attention(const AttentionShape& s, int threads) {
  AttentionPlan plan;
  plan.padded_k = round_up(s.k_width, kColumnMultiple);
  plan.padded_v = round_up(s.v_width, kColumnMultiple);
  int64_t segments_with_work = 0, work = 0;
  for (int64_t i = 0; i < s.segments; ++i) {
    const int64_t queries = s.cu_q[i + 1] - s.cu_q[i], keys = s.cu_k[i + 1] - s.cu_k[i];
    plan.sum_padded_keys += round_up(keys, kColumnMultiple);
    plan.max_padded_keys = std::max(plan.max_padded_keys, round_up(keys, kColumnMultiple));
    work += queries * keys * s.heads * (s.k_width + s.v_width);
    segments_with_work += queries > 0 && keys > 0;
  }
  plan.threads = useful_threads(work, threads);
  const int64_t tasks = segments_with_work * s.kv_heads;
  plan.splits = tasks == 0 || tasks >= plan.threads ? 1 : ceil_div(2 * plan.threads, tasks);
  return plan;
}

int64_t attention_forward_workspace(const AttentionShape& s, int threads) {
  const AttentionPlan plan = plan_attention(s, threads);
  return plan.forward_packed(s) + plan.threads * plan.forward_scratch(s);
}

int64_t attention_backward_workspace(const AttentionShape& s, int threads) {
  const AttentionPlan plan = plan_attention(s, threads);
  return plan.threads * plan.backward_scratch(s) + plan.backward_partials(s);
}

}  // namespace veomni::ops::kernels
