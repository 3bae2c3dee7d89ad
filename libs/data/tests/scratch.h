// SPDX-License-Identifier: Apache-2.0
/// A directory for one test's files, and a small tokenizer.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "veomni/data/bpe_trainer.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// Removed with everything in it at the end of the scope.
class ScratchDir {
 public:
  ScratchDir() {
    std::string name = (std::filesystem::temp_directory_path() / "veomni_data_XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("no scratch directory at " + name);
    path_ = name;
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;

  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file.string();
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline TextIterator texts_of(std::vector<std::string> texts) {
  return [texts = std::move(texts), at = size_t{0}]() mutable -> std::optional<std::string> {
    return at < texts.size() ? std::optional<std::string>(texts[at++]) : std::nullopt;
  };
}

/// 300 entries, merges of English words, ChatML's tokens.
inline const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer(
      train_bpe(texts_of({"the cat sat on the mat and the dog sat on the log",
                          "what is a potato? a plant and its root",
                          "user assistant system the the the cat\n\ncat\n\ndog dog\n\n"}),
                {.vocab_size = 300, .min_frequency = 1}));
  return tokenizer;
}

}  // namespace veomni::data
