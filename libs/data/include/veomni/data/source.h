// SPDX-License-Identifier: Apache-2.0
/// Records out of files: read one by one, never all at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/data/chat_template.h"

namespace veomni::data {

/// A conversation (messages is not empty), a plain text, or media alone (messages and text are empty).
struct Record {
  std::vector<Message> messages;
  std::string text;
  std::vector<MediaPart> media = {};  ///< alone: for training a decoder's tokenizer
};

/// A record that cannot be used. what() is "file:line: reason".
class BadRecord : public Error {
 public:
  using Error::Error;
};

/// The records of one or several files, in a fixed order, by index. Thread-safe.
class Source {
 public:
  virtual ~Source() = default;
  virtual int64_t size() const = 0;
  /// Media locations are ready to be opened: paths that were relative to the record's file are no longer.
  /// @throws BadRecord if the record is not what the format says; Error if the file is gone or became
  ///         shorter since it was opened.
  virtual Record read(int64_t index) const = 0;
  /// "file:line" of a record, for messages.
  virtual std::string where(int64_t index) const = 0;
};

struct FileSourceOptions {
  /// A file, a directory (its *.jsonl, *.json and *.txt files, sorted by name) or a glob (sorted).
  std::string path;
  /// auto             by the file's name: .txt text_lines, everything else jsonl
  /// jsonl            a JSON object a line: {"messages": [{"role": …, "content": …}]}, {"text": …}, LLaVA's
  ///                  {"conversations": …}, or {"image": …} alone; docs/data.md shows every form
  /// text_lines       a document a line
  /// text_paragraphs  documents separated by blank lines, inner newlines kept
  std::string format = "auto";
  /// A longer record is bad, so that one broken file cannot exhaust memory.
  int64_t max_record_bytes = 64 << 20;
};

/// Opens the files and notes where each record starts (8 bytes a record; blank lines are none).
/// Bytes that are not UTF-8 make a bad record; NUL bytes are allowed in text.
/// @throws ConfigError if nothing matches `path`, a file cannot be read or no record is found.
std::unique_ptr<Source> open_file_source(const FileSourceOptions& options);

/// The files `path` stands for, as FileSourceOptions::path says. @throws ConfigError if there are none.
std::vector<std::string> list_source_files(const std::string& path);

}  // namespace veomni::data
