// SPDX-License-Identifier: Apache-2.0
#include "shm/inputs.h"

#include <algorithm>
#include <cstring>

namespace veomni::shm {

void Inputs::say(char* to, const std::vector<torch::Tensor>& ins) const {
  for (size_t r = 0; r < members_.size(); ++r)
    to[r] = static_cast<int>(r) == rank_ || board_.arena_of(members_[r]) != nullptr;
  for (size_t i = 0; i < ins.size(); ++i) {
    const int64_t offset = ins[i].numel() ? board_.offset_of(ins[i].data_ptr()) : -1;
    std::memcpy(to + spoken_for() + i * sizeof offset, &offset, sizeof offset);
  }
}

void Inputs::hear(const std::vector<const char*>& said, size_t count) {
  hear_nothing(count);
  for (size_t r = 0; r < members_.size(); ++r) {
    const bool all_can_read =
        std::all_of(said.begin(), said.end(), [&](const char* message) { return message[r] != 0; });
    if (!all_can_read) continue;
    for (size_t i = 0; i < count; ++i) {
      int64_t offset;
      std::memcpy(&offset, said[r] + spoken_for() + i * sizeof offset, sizeof offset);
      if (offset < 0) continue;
      const bool mine = static_cast<int>(r) == rank_;
      begins_[r * count + i] =
          (mine ? board_.arena()->data() : board_.arena_of(members_[r])) + offset;
    }
  }
}

void Inputs::hear_nothing(size_t count) {
  count_ = count;
  begins_.assign(members_.size() * count, nullptr);
}

bool Inputs::all_in_place(size_t i) const {
  for (size_t r = 0; r < members_.size(); ++r) {
    if (!at(static_cast<int>(r), i)) return false;
  }
  return true;
}

bool Inputs::lends() const {
  const auto mine = begins_.begin() + static_cast<int64_t>(rank_ * count_);
  return std::any_of(mine, mine + static_cast<int64_t>(count_),
                     [](const char* begin) { return begin != nullptr; });
}

}  // namespace veomni::shm
