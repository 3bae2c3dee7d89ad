// SPDX-License-Identifier: Apache-2.0
/// A piece of memory that the ranks of a group share.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace veomni::shm {

class Segment {
 public:
  struct Options {
    std::string name;
    size_t bytes = 0;  ///< equal on all places
    int place = 0, places = 1;
    std::vector<int> ranks;       ///< of the places, for messages
    std::function<void()> check;  ///< called while waiting; throws to give up
  };

  /// Creates or joins /dev/shm/<name>, zeroed, and returns when all places have; then the name is
  /// gone again. It goes too if `check` throws.
  /// @throws veomni::Error
  explicit Segment(const Options& options);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  /// 64-byte aligned.
  char* data() const { return data_; }

 private:
  void open(const Options& options);
  void attend(const Options& options);

  void* mapping_ = nullptr;
  size_t mapped_ = 0;
  char* data_ = nullptr;
};

}  // namespace veomni::shm
