// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

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

// Of a core's second-level cache of 1 MiB, what the operand that stays may fill.
constexpr int64_t kStayBytes = 560 << 10;
constexpr int64_t kMaxRows = 192, kMinRows = 48;
// Columns of b that stay, rows of a that pass over them at a time.
constexpr int64_t kStayColumns = 256, kPassingRows = 48;
// From here on b does not stay in the third-level cache while blocks of a pass over it.
constexpr int64_t kLargeBytes = 8 << 20;

// Grouped products: rows whose sums wait for more terms; blocks below which laying out operands costs more than a waiting thread;
// tasks of a thread.
constexpr int64_t kMostRowsApart = 512, kFewestRows = 96, kFewestColumns = 128;
constexpr int64_t kTasksOfThread = 8;

int64_t size_of(DType dtype) {
  return dtype == DType::kBFloat16 ? 2 : dtype == DType::kFloat ? 4 : 8;
}
int64_t acc_size_of(DType dtype) { return dtype == DType::kDouble ? 8 : 4; }

/// Blocks of at most `most` that are as even as multiples of `step` allow.
int64_t even(int64_t n, int64_t most, int64_t step) {
  return n ? round_up(ceil_div(n, ceil_div(n, most)), step) : 0;
}

/// Rows and columns of a task when a block of a stays: large enough to be worth a panel's journey,
/// and so many that no thread is idle for long.
void cut_evenly(MatMulPlan& plan, int64_t m, int64_t n, int64_t most_rows, int64_t most_columns,
                int64_t tile_rows, int64_t threads) {
  double best = 0;
  for (int64_t columns = even(n, most_columns, kColumnMultiple);;
       columns = even(n, columns / 2, kColumnMultiple)) {
    for (int64_t rows = std::min(most_rows, round_up(m, tile_rows)); rows >= tile_rows;
         rows -= tile_rows) {
      const int64_t tasks = ceil_div(m, rows) * ceil_div(n, columns);
      // A task's overhead is worth a few rows (its panels) and columns (its block of a).
      const double cost = static_cast<double>(ceil_div(tasks, threads)) *
                          static_cast<double>(rows + 4) * static_cast<double>(columns + 8);
      if (best == 0 || cost < best) {
        best = cost;
        plan.rows = rows;
        plan.columns = columns;
      }
    }
    if (columns <= 4 * kColumnMultiple) break;
  }
  plan.step = plan.rows;
}

/// Terms at a time: by k alone, so that sums are added in an order that nothing else changes.
void cut_depth(MatMulPlan& plan, DType dtype, bool wide_out, int64_t k) {
  plan.depth = std::max<int64_t>(even(k, 4096 / size_of(dtype), kColumnMultiple), kColumnMultiple);
  plan.depth_blocks = std::max<int64_t>(ceil_div(k, plan.depth), 1);
  plan.sums_apart = plan.depth_blocks > 1 && !wide_out;
}

void count_blocks(MatMulPlan& plan, int64_t m, int64_t n, int64_t k) {
  plan.row_blocks = ceil_div(m, plan.rows);
  plan.column_blocks = ceil_div(n, plan.columns);
  const bool of_task = plan.panels == Panels::kOfTask;
  plan.panel_columns = of_task ? plan.columns : round_up(n, kColumnMultiple);
  plan.panel_depth = padded_depth(of_task ? plan.depth : k);
}

// 128 KiB in float32: a band of x and one of dout stay in a core's L2 cache beside the weight.
constexpr int64_t kBandElements = 32 << 10;

}  // namespace

MatMulPlan plan_matmul(DType dtype, bool wide_out, int64_t m, int64_t n, int64_t k, int threads,
                       bool packed_b, int64_t tile_rows) {
  MatMulPlan plan{};
  if (m == 0 || n == 0) return plan;
  const int64_t size = size_of(dtype);
  cut_depth(plan, dtype, wide_out, k);
  plan.threads = useful_threads(m * n * k, threads);
  plan.panels_stay = n * k * size >= kLargeBytes && plan.depth_blocks == 1 &&
                     kStayColumns * k * size <= kStayBytes &&
                     ceil_div(n, kStayColumns) >= 4 * plan.threads;
  plan.panels = packed_b ? Panels::kGiven : plan.panels_stay ? Panels::kOfTask : Panels::kShared;
  if (plan.panels_stay) {
    plan.rows = round_up(m, tile_rows);
    plan.columns = even(n, kStayColumns, kColumnMultiple);
    plan.step = std::min(plan.rows, round_up(kPassingRows, tile_rows));
  } else {
    const int64_t most_rows = round_up(
        std::clamp(kStayBytes / (plan.depth * size) / tile_rows * tile_rows, kMinRows, kMaxRows),
        tile_rows);
    cut_evenly(plan, m, n, most_rows, plan.sums_apart ? 512 : 8192, tile_rows, plan.threads);
  }
  count_blocks(plan, m, n, k);
  plan.threads = std::min(plan.threads, plan.tasks());
  return plan;
}

MatMulRoom room_of(const MatMulPlan& plan, DType dtype) {
  constexpr int64_t kLine = 64;
  const int64_t b = round_up(plan.panel_columns * plan.panel_depth * size_of(dtype), kLine);
  return {plan.panels == Panels::kShared ? b : 0, plan.panels == Panels::kOfTask ? b : 0,
          round_up(plan.a_words() * acc_size_of(dtype), kLine),
          round_up(plan.sums() * acc_size_of(dtype), kLine)};
}

int64_t packed_bytes(DType dtype, int64_t n, int64_t k) {
  return round_up(n, kColumnMultiple) * padded_depth(k) * size_of(dtype);
}

int64_t matmul_workspace(DType dtype, bool wide_out, int64_t m, int64_t n, int64_t k, int threads,
                         bool packed_b) {
  // Whichever level runs: a processor without AMX pays some bytes for its larger tiles.
  int64_t bytes = 0;
  for (const int64_t tile_rows : {kRowMultiple, kAmxRows}) {
    const MatMulPlan plan = plan_matmul(dtype, wide_out, m, n, k, threads, packed_b, tile_rows);
    bytes = std::max(bytes, room_of(plan, dtype).total(plan.threads));
  }
  return bytes;
}

int64_t out_bytes(const MatMul& a) {
  return a.m * a.n * (a.wide_out ? acc_size_of(a.dtype) : size_of(a.dtype));
}

int64_t out_bytes(const GroupedMatMul& a) {
  const int64_t results = a.axis == GroupedAxis::kTerms ? a.groups : 1;
  return results * a.m * a.n * (a.wide_out ? acc_size_of(a.dtype) : size_of(a.dtype));
}

MatMul product_of(const GroupedMatMul& a, int64_t group) {
  const int64_t begin = a.offsets[group], count = a.offsets[group + 1] - begin;
  const int64_t size = size_of(a.dtype), out_size = a.wide_out ? acc_size_of(a.dtype) : size;
  const bool rows = a.axis == GroupedAxis::kRows;
  const auto after = [](const void* base, int64_t bytes) {
    return base ? static_cast<const char*>(base) + bytes : nullptr;
  };
  const int64_t a_begin = begin * (rows ? a.a_m : a.a_k),
                b_begin = rows ? group * a.b_group : begin * a.b_k,
                out_begin = rows ? begin * a.out_m : group * a.out_group;
  return {.dtype = a.dtype,
          .wide_out = a.wide_out,
          .accumulate = false,
          .m = rows ? count : a.m,
          .n = a.n,
          .k = rows ? a.k : count,
          .a = after(a.a, a_begin * size),
          .a_m = a.a_m,
          .a_k = a.a_k,
          .b = after(a.b, b_begin * size),
          .b_n = a.b_n,
          .b_k = a.b_k,
          .out = const_cast<char*>(after(a.out, out_begin * out_size)),
          .out_m = a.out_m,
          .workspace = nullptr};
}

MatMulPlan plan_group(const MatMul& product, int64_t tile_rows, int64_t most_work) {
  MatMulPlan plan{};
  const int64_t m = product.m, n = product.n, k = product.k;
  if (m == 0 || n == 0) return plan;
  plan.panels_stay = true;
  plan.panels = Panels::kOfTask;
  cut_depth(plan, product.dtype, product.wide_out, k);
  const int64_t fitting = kStayBytes / (padded_depth(plan.depth) * size_of(product.dtype));
  plan.columns =
      even(n, std::max(fitting / kColumnMultiple, int64_t{1}) * kColumnMultiple, kColumnMultiple);
  plan.rows = even(m, plan.sums_apart ? kMostRowsApart : m, tile_rows);
  while (plan.rows * plan.columns * k > most_work) {
    if (plan.columns > std::max(plan.rows, kFewestColumns)) {
      plan.columns = even(n, plan.columns / 2, kColumnMultiple);
    } else if (plan.rows > kFewestRows) {
      plan.rows = even(m, plan.rows / 2, tile_rows);
    } else {
      break;
    }
  }
  plan.step = std::min(plan.rows, round_up(kPassingRows, tile_rows));
  count_blocks(plan, m, n, k);
  return plan;
}

GroupedPlan plan_grouped(const GroupedMatMul& args, int threads, int64_t tile_rows) {
  GroupedPlan plan{};
  // A tile takes as long for one row as for all of its rows.
  int64_t work = 0;
  for (int64_t g = 0; g < args.groups; ++g) {
    const MatMul product = product_of(args, g);
    work += round_up(product.m, tile_rows) * product.n * product.k;
  }
  plan.threads = useful_threads(work, threads);
  plan.most_work = plan.threads == 1 ? std::numeric_limits<int64_t>::max()
                                     : work / (plan.threads * kTasksOfThread);
  for (int64_t g = 0; g < args.groups; ++g) {
    const MatMulPlan group = plan_group(product_of(args, g), tile_rows, plan.most_work);
    plan.tasks += group.tasks();
    plan.per_thread = std::max(plan.per_thread, room_of(group, args.dtype).per_thread());
  }
  plan.threads = std::min(plan.threads, plan.tasks);
  plan.list_bytes = round_up((args.groups + 1) * sizeof(int64_t), 64);
  return plan;
}

void list_first_tasks(const GroupedMatMul& args, const GroupedPlan& plan, int64_t tile_rows,
                      int64_t* first) {
  first[0] = 0;
  for (int64_t g = 0; g < args.groups; ++g)
    first[g + 1] = first[g] + plan_group(product_of(args, g), tile_rows, plan.most_work).tasks();
}

int64_t group_of_task(const int64_t* first, int64_t groups, int64_t task) {
  return std::upper_bound(first, first + groups + 1, task) - first - 1;
}

int64_t grouped_matmul_workspace(const GroupedMatMul& args, int threads) {
  int64_t bytes = 0;
  for (const int64_t tile_rows : {kRowMultiple, kAmxRows}) {
    const GroupedPlan plan = plan_grouped(args, threads, tile_rows);
    bytes = std::max(bytes, plan.list_bytes + plan.threads * plan.per_thread);
  }
  return bytes;
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
  return plan.forward_packed(s) + plan.threads * plan.forward_scratch();
}

int64_t attention_backward_workspace(const AttentionShape& s, int threads) {
  const AttentionPlan plan = plan_attention(s, threads);
  return plan.threads * plan.backward_scratch() + plan.backward_partials(s);
}

}  // namespace veomni::ops::kernels
