// SPDX-License-Identifier: Apache-2.0
#include "position_ids.h"

#include <algorithm>

namespace veomni::data {

namespace {
class Writer {
 public:
  Writer(int64_t* axes_3T, int64_t row_stride) : at_(axes_3T), row_stride_(row_stride) {}

  void text(int64_t tokens) {
    for (; tokens > 0; --tokens, ++next_) put(next_, next_, next_);
  }

  void item(const media::Grid& grid) {
    if (grid[1] == 1 && grid[2] == 1) return text(grid[0]);
    for (int64_t t = 0; t < grid[0]; ++t) {
      for (int64_t h = 0; h < grid[1]; ++h) {
        for (int64_t w = 0; w < grid[2]; ++w) put(next_ + t, next_ + h, next_ + w);
      }
    }
    next_ += *std::max_element(grid.begin(), grid.end());
  }

 private:
  void put(int64_t time, int64_t height, int64_t width) {
    at_[0] = time;
    at_[row_stride_] = height;
    at_[2 * row_stride_] = width;
    ++at_;
  }

  int64_t* at_;
  int64_t row_stride_;
  int64_t next_ = 0;
};
}  // namespace

void write_mrope_positions(const Sample& sample, int64_t* axes_3T, int64_t row_stride) {
  Writer writer(axes_3T, row_stride);
  int64_t done = 0;
  for (const MediaItem& item : sample.media) {
    writer.text(item.begin - done);
    writer.item(item.features->token_grid);
    done = item.begin + item.features->tokens;
  }
  writer.text(sample.size() - done);
}

}  // namespace veomni::data
