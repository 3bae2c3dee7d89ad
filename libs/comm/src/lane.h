// SPDX-License-Identifier: Apache-2.0
/// How tensors are cut into chunks.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace veomni {

/// Elements [begin, end) of `numel` that rank `r` of `size` reduces.
struct Stretch {
  int64_t begin, end;
};
inline Stretch stretch_of(int64_t numel, int r, int size) {
  return {numel * r / size, numel * (r + 1) / size};
}

inline int64_t chunks_of(int64_t bytes, int64_t chunk) { return (bytes + chunk - 1) / chunk; }

/// Bytes [begin, end) of chunk `chunk` of a block of `bytes`; empty past its end.
struct Cut {
  int64_t begin, bytes;
};
inline Cut cut(int64_t bytes, int64_t chunk, int64_t chunk_bytes) {
  const int64_t begin = std::min(bytes, chunk * chunk_bytes);
  return {begin, std::min(bytes, begin + chunk_bytes) - begin};
}

inline int64_t sum_before(c10::IntArrayRef values, int end) {
  return std::accumulate(values.begin(), values.begin() + end, int64_t{0});
}

/// Several blocks of bytes as one stream. Each block begins at a multiple of 64 in the stream, so that a chunk of a multiple of 64 bytes
/// cuts no element in two, and elements are aligned in it.
class Lane {
 public:
  /// A part of block `index`: its bytes [offset, offset + bytes), `at` bytes into the chunk.
  struct Part {
    size_t index;
    int64_t offset, bytes, at;
  };

  void add(int64_t bytes) {
    begins_.push_back(end_);
    lengths_.push_back(bytes);
    end_ += (bytes + 63) / 64 * 64;
  }

  int64_t bytes() const { return end_; }
  int64_t chunks(int64_t chunk_bytes) const { return (end_ + chunk_bytes - 1) / chunk_bytes; }

  /// Calls visit(Part) for what chunk `chunk` holds, in order.
  template <typename Visit> void parts(int64_t chunk, int64_t chunk_bytes, Visit visit) const {
    const int64_t begin = chunk * chunk_bytes, end = std::min(begin + chunk_bytes, end_);
    auto i = static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), begin) -
                                 begins_.begin());
    for (i -= i > 0; i < begins_.size() && begins_[i] < end; ++i) {
      const int64_t from = std::max(begin, begins_[i]);
      const int64_t to = std::min(end, begins_[i] + lengths_[i]);
      if (from < to) visit(Part{i, from - begins_[i], to - from, from - begin});
    }
  }

 private:
  std::vector<int64_t> begins_, lengths_;
  int64_t end_ = 0;
};

}  // namespace veomni
