// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/shard_spec.h"

#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/io/dtype.h"

namespace veomni::io {

Slice shard_rows(int64_t rows, int rank, int world) {
  VEOMNI_CHECK(rows >= 0 && rank >= 0 && rank < world, "shard_rows: no rank ", rank, " of ", world,
               " over ", rows, " rows");
  const int64_t chunk = rows / world + (rows % world != 0);
  const int64_t begin = std::min(rows, chunk * rank);
  return {begin, std::min(chunk, rows - begin)};
}

ShardSpec ShardSpec::whole(std::vector<int64_t> full_shape) {
  return {.full_shape = std::move(full_shape), .shards = {}};
}

ShardSpec ShardSpec::flat_range(std::vector<int64_t> full_shape, Slice elements) {
  ShardSpec spec = whole(std::move(full_shape));
  VEOMNI_CHECK(elements.begin >= 0 && elements.length >= 0 &&
                   elements.begin <= spec.full_numel() - elements.length,
               "ShardSpec: elements [", elements.begin, ", +", elements.length, ") lie outside ",
               shape_text(spec.full_shape));
  spec.flat = elements;
  return spec;
}

ShardSpec ShardSpec::rows(std::vector<int64_t> full_shape, int rank, int world) {
  if (full_shape.empty()) return whole(std::move(full_shape));
  const Slice slice = shard_rows(full_shape[0], rank, world);
  return whole(std::move(full_shape)).with(0, slice);
}

ShardSpec ShardSpec::with(int64_t dim, Slice slice) const {
  VEOMNI_CHECK(!flat, "ShardSpec: a flat range has no dims to shard");
  VEOMNI_CHECK(dim >= 0 && dim < static_cast<int64_t>(full_shape.size()), "ShardSpec: no dim ", dim,
               " in the shape ", shape_text(full_shape));
  for (const DimShard& shard : shards) {
    VEOMNI_CHECK(shard.dim != dim, "ShardSpec: dim ", dim, " is sharded already");
  }
  const int64_t size = full_shape[static_cast<size_t>(dim)];
  VEOMNI_CHECK(slice.begin >= 0 && slice.length >= 0 && slice.begin <= size - slice.length,
               "ShardSpec: [", slice.begin, ", +", slice.length, ") lies outside dim ", dim, " of ",
               shape_text(full_shape));
  ShardSpec spec = *this;
  spec.shards.push_back({dim, slice.begin, slice.length});
  return spec;
}

bool ShardSpec::is_whole() const { return !flat && local_shape() == full_shape; }

bool ShardSpec::is_sharded() const { return flat || !shards.empty(); }

std::vector<int64_t> ShardSpec::local_shape() const {
  if (flat) return {flat->length};
  std::vector<int64_t> shape = full_shape;
  for (const DimShard& shard : shards) shape[static_cast<size_t>(shard.dim)] = shard.length;
  return shape;
}

int64_t ShardSpec::local_numel() const { return num_elements(local_shape()); }
int64_t ShardSpec::full_numel() const { return num_elements(full_shape); }

int64_t num_elements(std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

std::vector<ElementRun> element_runs(const ShardSpec& spec) {
  const std::vector<int64_t> local = spec.local_shape();
  const int64_t total = num_elements(local);
  if (total == 0) return {};
  if (spec.flat) return {{spec.flat->begin, 0, total}};
  std::vector<int64_t> begin(local.size(), 0);
  for (const DimShard& shard : spec.shards) begin[static_cast<size_t>(shard.dim)] = shard.begin;

  // Everything inside the innermost cut dim is one block of both tensors.
  size_t cut = local.size();
  while (cut > 0 && local[cut - 1] == spec.full_shape[cut - 1]) --cut;
  if (cut == 0) return {{0, 0, total}};
  std::vector<int64_t> stride(local.size(), 1);
  for (size_t d = local.size(); d-- > 1;) stride[d - 1] = stride[d] * spec.full_shape[d];

  const int64_t length = local[cut - 1] * stride[cut - 1];
  std::vector<ElementRun> runs;
  runs.reserve(static_cast<size_t>(total / length));
  for (int64_t at = 0; at < total; at += length) {
    int64_t full = begin[cut - 1] * stride[cut - 1];
    int64_t rest = at / length;
    for (size_t d = cut - 1; d-- > 0; rest /= local[d])
      full += (begin[d] + rest % local[d]) * stride[d];
    runs.push_back({full, at, length});
  }
  return runs;
}

namespace {

/// Boxes of a flat range, from the dims outside in.
class FlatBoxes {
 public:
  explicit FlatBoxes(const std::vector<int64_t>& full_shape)
      : shape_(full_shape), offsets_(full_shape.size(), 0) {}

  /// Elements [begin, end) of the part that offsets_[0 .. dim) choose.
  void add(size_t dim, int64_t begin, int64_t end) {
    if (begin >= end) return;
    if (dim == shape_.size()) return take(dim, 0, 1);
    int64_t row = 1;
    for (size_t d = dim + 1; d < shape_.size(); ++d) row *= shape_[d];
    const int64_t first = begin / row, last = end / row;
    if (first == last) return add_part_of_row(dim, first, begin % row, end % row);
    const int64_t whole = first + (begin % row != 0);
    if (whole > first) add_part_of_row(dim, first, begin % row, row);
    if (last > whole) take(dim, whole, last - whole);
    add_part_of_row(dim, last, 0, end % row);
  }
  std::vector<Box> found;

 private:
  void add_part_of_row(size_t dim, int64_t index, int64_t begin, int64_t end) {
    offsets_[dim] = index;
    add(dim + 1, begin, end);
    offsets_[dim] = 0;
  }
  void take(size_t dim, int64_t index, int64_t length) {
    Box box{offsets_, shape_, local_};
    for (size_t d = 0; d < std::min(dim, shape_.size()); ++d) box.shape[d] = 1;
    if (dim < shape_.size()) {
      box.offsets[dim] = index;
      box.shape[dim] = length;
    }
    local_ += num_elements(box.shape);
    found.push_back(std::move(box));
  }

  const std::vector<int64_t>& shape_;
  std::vector<int64_t> offsets_;
  int64_t local_ = 0;
};

}  // namespace

std::vector<Box> boxes(const ShardSpec& spec) {
  if (spec.local_numel() == 0) return {};
  if (spec.flat) {
    FlatBoxes flat(spec.full_shape);
    flat.add(0, spec.flat->begin, spec.flat->begin + spec.flat->length);
    return flat.found;
  }
  Box box{std::vector<int64_t>(spec.full_shape.size(), 0), spec.local_shape(), 0};
  for (const DimShard& shard : spec.shards)
    box.offsets[static_cast<size_t>(shard.dim)] = shard.begin;
  return {box};
}

}  // namespace veomni::io
