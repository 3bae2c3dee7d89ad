// SPDX-License-Identifier: Apache-2.0
/// The walk through a matrix product that every level shares. A Form says how a level lays out and
/// multiplies:
///   T, A            operand and sum
///   Left, Right     words that a tile reads of a and of b; kDepth terms a word
///   kRows, kColumns of a tile; kFewRows of a lower one; kRowStep, a multiple of kRows that blocks are cut by
///   kTerms          a tile reads so many terms at once: what it reads is a multiple, or copied and padded with zeros
///   Scope           lives in a thread while it multiplies
///   pack_panels     terms of b in panels: out[panel][k][lane], zero where lanes or terms are missing
///   pack_rows       a's rows as they are, `stride` words apart, zero where rows or terms are missing
///   pack_tiles      a's rows in tiles: out[tile][k][row]; or, with kTilesAreRows, as pack_rows does
///   tile<rows>      f(r, left, right) with the sums of row r, in the same order for every number of rows
///   put, add, put_narrow, stream, stream_narrow   what is done with them
///   widen(from, left, right)   values of T to add to them
#pragma once

#include <omp.h>

#include <cstddef>
#include <initializer_list>
#include <type_traits>

#include "kernels/matmul_plan.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// The operand that tiles read by panels of kColumns columns, each with room for `depth` terms.
template <typename Form> class PanelsOf {
  using T = typename Form::T;
  using Right = typename Form::Right;
  static constexpr int kColumns = Form::kColumns, kDepth = Form::kDepth;

 public:
  /// Of a MatMul or a PackMatrix.
  template <typename Args>
  PanelsOf(const Args& args, int64_t depth)
      : b_(static_cast<const T*>(args.b)),
        step_n_(args.b_n),
        step_k_(args.b_k),
        n_(args.n),
        k_(args.k),
        words_(depth / kDepth * kColumns) {}

  /// Words from panel to panel, and before that of column n0 and term k0.
  int64_t words() const { return words_; }
  int64_t at(int64_t n0, int64_t k0) const {
    return n0 / kColumns * words_ + k0 / kDepth * kColumns;
  }

  /// Lays out terms [k0, k0 + depth) of at most `columns` columns.
  void pack(int64_t n0, int64_t columns, int64_t k0, int64_t depth, Right* out) const {
    Form::pack_panels(b_ + n0 * step_n_ + k0 * step_k_, step_n_, step_k_, min_of(columns, n_ - n0),
                      depth, out, words_);
  }

  /// Pieces that are long in both directions: rows and columns are read by whole lines.
  int64_t pieces() const { return column_pieces() * ((k_ + kPieceDepth - 1) / kPieceDepth); }
  /// Lays out piece i of all panels, which begin at `panels`.
  void pack_piece(int64_t i, void* panels) const {
    const int64_t n0 = i % column_pieces() * kPieceColumns, k0 = i / column_pieces() * kPieceDepth;
    pack(n0, kPieceColumns, k0, min_of(kPieceDepth, k_ - k0),
         static_cast<Right*>(panels) + at(n0, k0));
  }

 private:
  static constexpr int64_t kPieceColumns = 256, kPieceDepth = 256;
  int64_t column_pieces() const { return (n_ + kPieceColumns - 1) / kPieceColumns; }

  const T* b_;
  int64_t step_n_, step_k_, n_, k_, words_;
};

template <typename Form> class Product {
  using T = typename Form::T;
  using A = typename Form::A;
  using Left = typename Form::Left;
  using Right = typename Form::Right;
  static constexpr int kRows = Form::kRows, kColumns = Form::kColumns, kDepth = Form::kDepth;
  static_assert(sizeof(Left) == sizeof(A));

 public:
  /// `out_bytes`: what the whole call writes, this product's result or that of all its groups.
  Product(const MatMul& args, const MatMulPlan& plan, int64_t out_bytes)
      : a_(args),
        plan_(plan),
        room_(room_of(plan, args.dtype)),
        panels_of_b_(args, plan.panel_depth),
        streams_(out_bytes >= kStreamBytes && !args.accumulate &&
                 reinterpret_cast<uintptr_t>(args.out) % 64 == 0 &&
                 args.out_m * out_size() % 64 == 0) {}

  const PanelsOf<Form>& panels_of_b() const { return panels_of_b_; }

  /// `panels`: all of b's, unless the task lays out its own; `room`: this thread's part of the workspace.
  void multiply_task(int64_t task, const void* panels, std::byte* room) const {
    const int64_t m0 = task / plan_.column_blocks * plan_.rows,
                  n0 = task % plan_.column_blocks * plan_.columns;
    Block block{m0,      n0,      min_of(plan_.rows, a_.m - m0), min_of(plan_.columns, a_.n - n0),
                nullptr, a_.out_m};
    if (plan_.sums_apart) {
      block.sums = reinterpret_cast<A*>(room + room_.b + room_.a);
      block.sums_row = plan_.columns;
    } else if (a_.wide_out) {
      block.sums = static_cast<A*>(a_.out) + m0 * a_.out_m + n0;
    }
    for (int64_t d = 0; d < plan_.depth_blocks; ++d) {
      const int64_t k0 = d * plan_.depth, depth = min_of(plan_.depth, a_.k - k0);
      const Right* block_panels = reinterpret_cast<const Right*>(room);
      if (plan_.panels == Panels::kOfTask) {
        panels_of_b_.pack(n0, block.columns, k0, depth, reinterpret_cast<Right*>(room));
      } else {
        block_panels = static_cast<const Right*>(panels) + panels_of_b_.at(n0, k0);
      }
      for (int64_t r0 = 0; r0 < block.rows; r0 += plan_.step)
        multiply_rows(block, r0, min_of(plan_.step, block.rows - r0), k0, depth, block_panels,
                      reinterpret_cast<Left*>(room + room_.b));
    }
    if (plan_.sums_apart) write_sums(block);
  }

 private:
  // Results beyond this are not read again before they leave the caches.
  static constexpr int64_t kStreamBytes = 4 << 20;

  /// One thread's rows of a block of a: in place or copied.
  struct Rows {
    const Left* data;
    int64_t row, k;  ///< distances in words
    int64_t tile;    ///< from tile to tile
  };
  /// The block of the result that a task computes, and where its sums lie.
  struct Block {
    int64_t m0, n0, rows, columns;
    A* sums;
    int64_t sums_row;
  };

  int64_t out_size() const { return a_.wide_out ? sizeof(A) : sizeof(T); }
  /// Whether tiles may read a as it lies: twelve rows whose lines share a few sets of the first-level
  /// cache would drive each other out.
  bool lies_well(int64_t depth) const {
    if (!std::is_same_v<Left, T> && kDepth == 1) return false;
    const int64_t bytes = a_.a_m * static_cast<int64_t>(sizeof(T));
    return a_.a_k == 1 && a_.a_m % kDepth == 0 && depth % Form::kTerms == 0 && bytes % 4096 != 0;
  }

  Rows lay_out(int64_t m, int64_t rows, int64_t k0, int64_t depth, Left* room) const {
    const T* a = static_cast<const T*>(a_.a) + m * a_.a_m + k0 * a_.a_k;
    if (rows % kRows == 0 && lies_well(depth)) {
      const int64_t row = a_.a_m / kDepth;
      return {reinterpret_cast<const Left*>(a), row, 1, kRows * row};
    }
    const int64_t words = (depth + kDepth - 1) / kDepth;
    if (a_.a_k == 1) {
      const int64_t row = plan_.depth / kDepth + kRowGap;
      Form::pack_rows(a, a_.a_m, rows, round_up(rows, kRows), depth, room, row);
      return {room, row, 1, kRows * row};
    }
    if constexpr (Form::kTilesAreRows) {
      const int64_t row = plan_.depth / kDepth + kRowGap;
      Form::pack_tiles(a, a_.a_m, a_.a_k, rows, depth, room, row);
      return {room, row, 1, kRows * row};
    } else {
      Form::pack_tiles(a, a_.a_m, a_.a_k, rows, depth, room);
      return {room, 1, kRows, kRows * words};
    }
  }

  /// rows [r0, r0 + rows) of the block, terms [k0, k0 + depth).
  void multiply_rows(const Block& block, int64_t r0, int64_t rows, int64_t k0, int64_t depth,
                     const Right* panels, Left* room) const {
    const Rows left = lay_out(block.m0 + r0, rows, k0, depth, room);
    const int64_t words = (depth + kDepth - 1) / kDepth;
    const int64_t tiles = (rows + kRows - 1) / kRows,
                  count = (block.columns + kColumns - 1) / kColumns;
    auto multiply = [&](int64_t t, int64_t p) {
      multiply_tile(block, left.data + t * left.tile, left, panels + p * panels_of_b_.words(),
                    words, r0 + t * kRows, min_of(kRows, rows - t * kRows), p * kColumns, k0 > 0);
    };
    if (plan_.panels_stay) {
      for (int64_t t = 0; t < tiles; ++t) {
        for (int64_t p = 0; p < count; ++p) multiply(t, p);
      }
    } else {
      for (int64_t p = 0; p < count; ++p) {
        for (int64_t t = 0; t < tiles; ++t) multiply(t, p);
      }
    }
  }

  void multiply_tile(const Block& block, const Left* data, const Rows& left, const Right* panel,
                     int64_t words, int64_t r0, int64_t rows, int64_t c0, bool later) const {
    const int64_t columns = min_of(kColumns, block.columns - c0);
    const bool add = later || a_.accumulate;
    A* sums = block.sums ? block.sums + r0 * block.sums_row + c0 : nullptr;
    T* narrow_out = static_cast<T*>(a_.out) + (block.m0 + r0) * a_.out_m + block.n0 + c0;
    const int64_t m = block.m0 + r0, n = block.n0 + c0;
    const bool adds_more = !later && (a_.bias || a_.residual);
    const auto finish = [&](int r, auto left_sums, auto right_sums) __attribute__((always_inline)) {
      if (r >= rows) return;
      if (columns < kColumns) {
        alignas(64) A line[kColumns];
        Form::put(line, left_sums, right_sums);
        if (adds_more) add_to_line(line, columns, m + r, n);
        return write_line(line, columns, sums ? sums + r * block.sums_row : nullptr,
                          narrow_out + r * a_.out_m, add);
      }
      if (adds_more) add_to_sums(left_sums, right_sums, m + r, n);
      if (!sums) {
        T* to = narrow_out + r * a_.out_m;
        return streams_ ? Form::stream_narrow(to, left_sums, right_sums)
                        : Form::put_narrow(to, left_sums, right_sums);
      }
      A* to = sums + r * block.sums_row;
      if (add) return Form::add(to, left_sums, right_sums);
      return streams_ && plan_.depth_blocks == 1 ? Form::stream(to, left_sums, right_sums)
                                                 : Form::put(to, left_sums, right_sums);
    };
    if (rows <= Form::kFewRows) {
      Form::template tile<Form::kFewRows>(data, left.row, left.k, panel, words, finish);
    } else {
      Form::template tile<kRows>(data, left.row, left.k, panel, words, finish);
    }
  }

  /// Bias and residual of a row's kColumns columns from n on.
  template <typename Sums>
  inline __attribute__((always_inline)) void add_to_sums(Sums& left, Sums& right, int64_t m,
                                                         int64_t n) const {
    Sums more_left, more_right;
    for (const T* more : {bias_at(n), residual_at(m, n)}) {
      if (!more) continue;
      Form::widen(more, more_left, more_right);
      left += more_left;
      right += more_right;
    }
  }
  void add_to_line(A* line, int64_t columns, int64_t m, int64_t n) const {
    for (const T* more : {bias_at(n), residual_at(m, n)}) {
      for (int64_t c = 0; more && c < columns; ++c) line[c] += wide(more[c]);
    }
  }
  const T* bias_at(int64_t n) const {
    return a_.bias ? static_cast<const T*>(a_.bias) + n : nullptr;
  }
  const T* residual_at(int64_t m, int64_t n) const {
    return a_.residual ? static_cast<const T*>(a_.residual) + m * a_.out_m + n : nullptr;
  }

  static void write_line(const A* line, int64_t columns, A* sums, T* narrow_out, bool add) {
    for (int64_t c = 0; c < columns; ++c) {
      if (!sums) {
        narrow_out[c] = narrow<T>(line[c]);
      } else {
        sums[c] = add ? sums[c] + line[c] : line[c];
      }
    }
  }

  void write_sums(const Block& block) const {
    T* out = static_cast<T*>(a_.out) + block.m0 * a_.out_m + block.n0;
    for (int64_t r = 0; r < block.rows; ++r) {
      const A* from = block.sums + r * block.sums_row;
      for (int64_t c = 0; c < block.columns; ++c) out[r * a_.out_m + c] = narrow<T>(from[c]);
    }
  }

  const MatMul& a_;
  const MatMulPlan& plan_;
  const MatMulRoom room_;
  const PanelsOf<Form> panels_of_b_;
  const bool streams_;
};

template <typename Form> void multiply(const MatMul& args) {
  const MatMulPlan plan = plan_matmul(args.dtype, args.wide_out, args.m, args.n, args.k,
                                      omp_get_max_threads(), args.packed_b, Form::kRowStep);
  if (plan.tasks() == 0) return;
  const MatMulRoom room = room_of(plan, args.dtype);
  auto* const workspace = static_cast<std::byte*>(args.workspace);
  const void* const panels = args.packed_b ? args.packed_b : workspace;
  const Product<Form> product(args, plan, out_bytes(args));
#pragma omp parallel num_threads(plan.threads)
  {
    if (plan.panels == Panels::kShared) {
#pragma omp for schedule(static)
      for (int64_t i = 0; i < product.panels_of_b().pieces(); ++i)
        product.panels_of_b().pack_piece(i, workspace);
    }
    [[maybe_unused]] const typename Form::Scope scope;
    std::byte* const own = workspace + room.shared + omp_get_thread_num() * room.per_thread();
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < plan.tasks(); ++task) product.multiply_task(task, panels, own);
  }
}

template <typename Form> void pack_matrix(const PackMatrix& args) {
  const PanelsOf<Form> panels(args, padded_depth(args.k));
#pragma omp parallel for schedule(static) if (panels.pieces() > 1)
  for (int64_t i = 0; i < panels.pieces(); ++i) panels.pack_piece(i, args.out);
}

/// The tasks of all groups are one loop, so that no group waits for another. Each lays out its own block of b: every weight is
/// read once, and no copy of all of them is made.
template <typename Form> void multiply(const GroupedMatMul& args) {
  const GroupedPlan plan = plan_grouped(args, omp_get_max_threads(), Form::kRowStep);
  if (plan.tasks == 0) return;
  auto* const first = static_cast<int64_t*>(args.workspace);
  list_first_tasks(args, plan, Form::kRowStep, first);
  std::byte* const rooms = static_cast<std::byte*>(args.workspace) + plan.list_bytes;
  const int64_t bytes = out_bytes(args);
#pragma omp parallel num_threads(plan.threads)
  {
    [[maybe_unused]] const typename Form::Scope scope;
    std::byte* const own = rooms + omp_get_thread_num() * plan.per_thread;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < plan.tasks; ++task) {
      const int64_t group = group_of_task(first, args.groups, task);
      const MatMul product = product_of(args, group);
      const MatMulPlan blocks = plan_group(product, Form::kRowStep, plan.most_work);
      Product<Form>(product, blocks, bytes).multiply_task(task - first[group], nullptr, own);
    }
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
