// SPDX-License-Identifier: Apache-2.0
/// How a product is cut into blocks: the same on every level, so that workspaces do not depend on
/// the processor.
#pragma once

#include <cstdint>

#include "kernels/args.h"

namespace veomni::ops::kernels {

/// Register tiles are divisors of these on every level; but for AMX's rows, whose tile is a square.
inline constexpr int64_t kRowMultiple = 12;
inline constexpr int64_t kColumnMultiple = 32;
inline constexpr int64_t kAmxRows = 32;

/// Room between rows of a that are copied, so that twelve of them never fall into one set of the
/// first-level cache.
inline constexpr int64_t kRowGap = 16;
/// Terms of a panel of b: room for whole words and tiles of terms, and not a power of two, so that panels that are
/// written side by side fall into different sets of the caches.
inline int64_t padded_depth(int64_t k) { return (k + 31) / 32 * 32 + 4; }

/// Who lays out b in panels.
enum class Panels {
  kShared,  ///< all threads, before the tasks that share them
  kOfTask,  ///< each task its own block, `depth` terms at a time
  kGiven,   ///< PackMatrix did, before the call
};

/// One task computes a block [rows, columns] of the result over the whole depth, `depth` terms at a
/// time. Two orders, by what stays in a core's second-level cache (1 MiB):
///   panels_stay = false   a block of a; every panel of b passes over all its rows
///   panels_stay = true    a block of b; the rows of a pass over it, `step` at a time
/// The terms of one element are added in an order that depends on k alone: results do not depend on
/// threads or on other rows.
struct MatMulPlan {
  int64_t rows, columns, depth, step;
  int64_t row_blocks, column_blocks, depth_blocks;
  bool panels_stay;
  Panels panels;
  bool sums_apart;        ///< partial sums need float room of their own
  int64_t threads;        ///< that get a workspace
  int64_t panel_depth;    ///< terms that a panel of b has room for: all of k, or a task's `depth`
  int64_t panel_columns;  ///< of b in panels: all, or a task's

  int64_t tasks() const { return row_blocks * column_blocks; }
  int64_t a_words() const { return step * (depth + kRowGap); }
  int64_t sums() const { return sums_apart ? rows * columns : 0; }
};
/// `packed_b`: whether its panels are given. `tile_rows`: of the level's register tile, or a multiple.
MatMulPlan plan_matmul(DType dtype, bool wide_out, int64_t m, int64_t n, int64_t k, int threads,
                       bool packed_b, int64_t tile_rows);

/// Where a thread's part of the workspace begins and what it holds, in bytes.
struct MatMulRoom {
  int64_t shared;      ///< b's panels for all threads
  int64_t b, a, sums;  ///< of one thread
  int64_t per_thread() const { return b + a + sums; }
  int64_t total(int64_t threads) const { return shared + threads * per_thread(); }
};
MatMulRoom room_of(const MatMulPlan& plan, DType dtype);

/// Bytes of the result.
int64_t out_bytes(const MatMul& args);
int64_t out_bytes(const GroupedMatMul& args);

/// Group `group` by itself, without a workspace.
MatMul product_of(const GroupedMatMul& args, int64_t group);

/// What the products of all groups share.
struct GroupedPlan {
  int64_t tasks, threads;
  int64_t most_work;  ///< multiply-adds of a task, so that no thread is idle for long
  /// Bytes of the list of first tasks, which the workspace begins with, and of each thread's part after it.
  int64_t list_bytes, per_thread;
};
GroupedPlan plan_grouped(const GroupedMatMul& args, int threads, int64_t tile_rows);
/// One group's blocks: panels_stay, whatever its size.
MatMulPlan plan_group(const MatMul& product, int64_t tile_rows, int64_t most_work);
/// first[g]: the tasks of the groups before g.
void list_first_tasks(const GroupedMatMul& args, const GroupedPlan& plan, int64_t tile_rows,
                      int64_t* first);
int64_t group_of_task(const int64_t* first, int64_t groups, int64_t task);

}  // namespace veomni::ops::kernels
