// SPDX-License-Identifier: Apache-2.0
/// Words already merged.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace veomni::data {

/// Lets maps of strings be asked with a string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

/// A bounded map from words to ids for any number of threads. Full parts take no more words: natural
/// text fills them with its frequent words first.
class WordCache {
 public:
  /// Appends the cached ids and returns true, or false.
  bool append_to(std::string_view word, std::vector<int32_t>& ids) const {
    const Part& part = part_of(word);
    std::shared_lock lock(part.mutex);
    const auto found = part.words.find(word);
    if (found == part.words.end()) return false;
    ids.insert(ids.end(), found->second.begin(), found->second.end());
    return true;
  }

  void insert(std::string_view word, const std::vector<int32_t>& ids) {
    if (word.size() > kLongestWord) return;
    Part& part = parts_[StringHash{}(word) % parts_.size()];
    std::unique_lock lock(part.mutex);
    if (part.words.size() < kWordsPerPart) part.words.emplace(word, ids);
  }

 private:
  static constexpr size_t kLongestWord = 64;
  static constexpr size_t kWordsPerPart = 4096;
  struct Part {
    mutable std::shared_mutex mutex;
    std::unordered_map<std::string, std::vector<int32_t>, StringHash, std::equal_to<>> words;
  };
  const Part& part_of(std::string_view word) const {
    return parts_[StringHash{}(word) % parts_.size()];
  }
  std::array<Part, 16> parts_;
};

}  // namespace veomni::data
