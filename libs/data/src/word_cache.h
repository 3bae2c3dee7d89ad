// SPDX-License-Identifier: Apache-2.0
/// Words already merged.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <vector>

namespace veomni::data {

/// Lets maps of strings be asked with a string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

/// A bounded map from words to ids for any number of threads. Full parts take no more words: natural
/// text fills them with its frequent words first. All memory, 3 MiB, is taken and touched at once, so that a training step that
/// meets new words takes no page fault.
class WordCache {
 public:
  /// Appends the cached ids and returns true, or false.
  bool append_to(std::string_view word, std::vector<int32_t>& ids) const {
    const size_t hash = StringHash{}(word);
    const Part& part = parts_[hash % kParts];
    std::shared_lock lock(part.mutex);
    return part.append_to(word, hash / kParts, ids);
  }

  void insert(std::string_view word, const std::vector<int32_t>& ids) {
    if (word.size() > kLongestWord || ids.size() > kLongestWord) return;
    const size_t hash = StringHash{}(word);
    Part& part = parts_[hash % kParts];
    std::unique_lock lock(part.mutex);
    part.insert(word, hash / kParts, ids);
  }

 private:
  static constexpr size_t kParts = 16, kLongestWord = 64;
  static constexpr size_t kWordsOfPart = 4096, kSlots = 2 * kWordsOfPart;
  // Enough for words of 12 letters and six ids.
  static constexpr size_t kBytesOfPart = 40 * kWordsOfPart;

  /// A word's place in `bytes`: this, its ids, its letters.
  struct Entry {
    uint16_t letters, ids;
  };

  struct Part {
    mutable std::shared_mutex mutex;

    bool append_to(std::string_view word, size_t hash, std::vector<int32_t>& ids) const {
      const uint32_t begin = slots_[slot_of(word, hash)];
      if (begin == 0) return false;
      const Entry entry = entry_at(begin);
      const size_t old = ids.size();
      ids.resize(old + entry.ids);
      std::memcpy(ids.data() + old, bytes_.data() + begin + sizeof entry,
                  entry.ids * sizeof(int32_t));
      return true;
    }

    void insert(std::string_view word, size_t hash, const std::vector<int32_t>& ids) {
      const size_t size = sizeof(Entry) + ids.size() * sizeof(int32_t) + word.size();
      const size_t slot = slot_of(word, hash);
      if (slots_[slot] != 0 || words_ == kWordsOfPart || used_ + size > bytes_.size()) return;
      const Entry entry{static_cast<uint16_t>(word.size()), static_cast<uint16_t>(ids.size())};
      char* to = bytes_.data() + used_;
      std::memcpy(to, &entry, sizeof entry);
      if (!ids.empty()) std::memcpy(to + sizeof entry, ids.data(), ids.size() * sizeof(int32_t));
      if (!word.empty()) {
        std::memcpy(to + sizeof entry + ids.size() * sizeof(int32_t), word.data(), word.size());
      }
      slots_[slot] = static_cast<uint32_t>(used_);
      used_ += size;
      ++words_;
    }

   private:
    Entry entry_at(uint32_t begin) const {
      Entry entry;
      std::memcpy(&entry, bytes_.data() + begin, sizeof entry);
      return entry;
    }

    /// The word's slot, or the empty one where it belongs: half of all slots stay empty.
    size_t slot_of(std::string_view word, size_t hash) const {
      size_t slot = hash % kSlots;
      for (; slots_[slot] != 0; slot = (slot + 1) % kSlots) {
        const Entry entry = entry_at(slots_[slot]);
        const char* letters =
            bytes_.data() + slots_[slot] + sizeof entry + entry.ids * sizeof(int32_t);
        if (std::string_view(letters, entry.letters) == word) break;
      }
      return slot;
    }

    std::vector<uint32_t> slots_ = std::vector<uint32_t>(kSlots);  // 0: empty
    std::vector<char> bytes_ = std::vector<char>(kBytesOfPart);
    size_t used_ = 1, words_ = 0;  // an entry never begins at 0
  };

  std::array<Part, kParts> parts_;
};

}  // namespace veomni::data
