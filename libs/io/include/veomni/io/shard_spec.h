// SPDX-License-Identifier: Apache-2.0
/// Which part of a tensor a rank owns: pure functions of shapes, tested without a device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace veomni::io {

/// Rows of dim 0 that one rank owns.
struct Slice {
  int64_t begin = 0, length = 0;
  bool operator==(const Slice&) const = default;
};

/// Rows that `rank` of `world` owns: ceil(rows / world) each, so that the last ranks may own fewer, or
/// none (then begin == rows).
/// @throws Error unless rows >= 0 and 0 <= rank < world
Slice shard_rows(int64_t rows, int rank, int world);

/// One sharded dim: this rank owns indices [begin, begin + length) of it.
struct DimShard {
  int64_t dim = 0, begin = 0, length = 0;
  bool operator==(const DimShard&) const = default;
};

/// A rank's part of a tensor, in one of two forms:
///   - the box cut out by the sharded dims. A dim without an entry is whole; each dim has at most one
///     entry (experts: dim 0 over `ep`, dim 1 over the other ranks);
///   - `flat`: a range of the elements in row-major order, which may begin and end in the middle of a
///     row (a parameter inside a flat buffer that is shared out as a whole). `shards` is then empty
///     and the local shape is [length].
struct ShardSpec {
  std::vector<int64_t> full_shape;
  std::vector<DimShard> shards;
  std::optional<Slice> flat = std::nullopt;

  /// The whole tensor.
  static ShardSpec whole(std::vector<int64_t> full_shape);
  /// Rank `rank` of `world`'s rows of dim 0, by shard_rows. A scalar is whole.
  static ShardSpec rows(std::vector<int64_t> full_shape, int rank, int world);
  /// Elements [begin, begin + length) in row-major order.
  /// @throws Error if the range lies outside the tensor
  static ShardSpec flat_range(std::vector<int64_t> full_shape, Slice elements);

  /// This with one more dim sharded.
  /// @throws Error if the dim does not exist, is sharded already, or the slice lies outside it, or if
  ///     this is a flat range
  ShardSpec with(int64_t dim, Slice slice) const;

  bool is_whole() const;    ///< every element of the tensor is owned, in the tensor's shape
  bool is_sharded() const;  ///< shared out over ranks (though one of them may own every element)
  std::vector<int64_t> local_shape() const;
  int64_t local_numel() const;
  int64_t full_numel() const;
  bool operator==(const ShardSpec&) const = default;
};

/// A run of elements that is contiguous in the full tensor and in the shard, both row-major.
struct ElementRun {
  int64_t full_begin = 0, local_begin = 0, length = 0;
  bool operator==(const ElementRun&) const = default;
};

/// The shard as runs, in the order of both tensors, as long as they can be: one run for a shard of dim 0,
/// full_shape[0] runs for a shard of dim 1. Empty for an empty shard.
std::vector<ElementRun> element_runs(const ShardSpec& spec);

/// A box of a tensor that lies in one piece in a shard: elements [local_begin, local_begin + product of
/// shape) of it.
struct Box {
  std::vector<int64_t> offsets, shape;
  int64_t local_begin = 0;
  bool operator==(const Box&) const = default;
};

/// The shard as few boxes, in its order: one, or for a flat range of a tensor of n dims at most 2n - 1
/// (the rest of a row, whole rows, the start of a row). Empty for an empty shard.
std::vector<Box> boxes(const ShardSpec& spec);

/// Elements of a shape; 1 for a scalar.
int64_t num_elements(std::span<const int64_t> shape);

}  // namespace veomni::io
