// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "record_index.h"
#include "record_parser.h"
#include "veomni/data/media_location.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
enum class Format { kJsonl, kTextLines, kTextParagraphs };

bool ends_with(const std::string& text, std::string_view ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

Format format_of(const std::string& file, const std::string& format) {
  if (format == "jsonl") return Format::kJsonl;
  if (format == "text_lines") return Format::kTextLines;
  if (format == "text_paragraphs") return Format::kTextParagraphs;
  VEOMNI_CHECK_CONFIG(format == "auto", "unknown data format '", format,
                      "' (known: auto, jsonl, text_lines, text_paragraphs)");
  return ends_with(file, ".txt") ? Format::kTextLines : Format::kJsonl;
}

// Closes on every way out.
class OpenFile {
 public:
  explicit OpenFile(const std::string& file)
      : file_(file), descriptor_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    VEOMNI_CHECK(descriptor_ >= 0, "data file ", file,
                 ": cannot be opened any more: ", std::strerror(errno));
  }
  ~OpenFile() { ::close(descriptor_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  std::string read(int64_t begin, int64_t bytes) const {
    std::string out(static_cast<size_t>(bytes), '\0');
    for (int64_t done = 0; done < bytes;) {
      const ssize_t got = ::pread(descriptor_, out.data() + done, bytes - done, begin + done);
      if (got < 0 && errno == EINTR) continue;
      VEOMNI_CHECK(got >= 0, "data file ", file_, ": cannot be read: ", std::strerror(errno));
      VEOMNI_CHECK(got > 0, "data file ", file_,
                   " became shorter while it was in use: ", bytes - done,
                   " bytes are missing at byte ", begin + done);
      done += got;
    }
    return out;
  }

 private:
  const std::string& file_;
  int descriptor_;
};

// Line breaks after the record, blank lines between paragraphs.
void drop_trailing_breaks(std::string& text) {
  size_t end = text.find_last_not_of("\r\n\t ");
  end = end == std::string::npos ? 0 : end + 1;
  const size_t first_break = text.find_first_of("\r\n", end);
  if (first_break != std::string::npos) text.resize(first_break);
}

// Relative places are relative to the record's file.
Record resolved(Record record, const std::string& file) {
  const std::string directory = std::filesystem::path(file).parent_path().string();
  const auto resolve = [&](std::vector<MediaPart>& media) {
    for (MediaPart& part : media)
      part.location = resolve_location(std::move(part.location), directory);
  };
  for (Message& message : record.messages) resolve(message.media);
  resolve(record.media);
  return record;
}

class FileSource : public Source {
 public:
  explicit FileSource(const FileSourceOptions& options)
      : max_record_bytes_(options.max_record_bytes) {
    for (const std::string& file : list_source_files(options.path)) {
      const Format format = format_of(file, options.format);
      parts_.push_back(
          {RecordIndex(file, format == Format::kTextParagraphs ? RecordIndex::Separator::kBlankLine
                                                               : RecordIndex::Separator::kLine),
           format, size_});
      size_ += parts_.back().index.size();
    }
    VEOMNI_CHECK_CONFIG(size_ > 0, "data source ", options.path, " holds no record");
  }

  int64_t size() const override { return size_; }

  Record read(int64_t index) const override {
    const Part& part = part_of(index);
    const int64_t local = index - part.first;
    try {
      const int64_t bytes = part.index.extent(local);
      if (bytes > max_record_bytes_) {
        throw BadRecord("longer than max_record_bytes: " + std::to_string(bytes) + " > " +
                        std::to_string(max_record_bytes_) + " bytes");
      }
      std::string text = OpenFile(part.index.file()).read(part.index.begin(local), bytes);
      drop_trailing_breaks(text);
      if (part.format != Format::kJsonl) return parse_text_record(text);
      return resolved(parse_json_record(text), part.index.file());
    } catch (const BadRecord& bad) {
      throw BadRecord(where(index) + ": " + bad.what());
    }
  }

  std::string where(int64_t index) const override {
    const Part& part = part_of(index);
    return part.index.file() + ":" + std::to_string(part.index.line(index - part.first));
  }

 private:
  struct Part {
    RecordIndex index;
    Format format;
    int64_t first;  ///< index of its first record in the source
  };
  const Part& part_of(int64_t index) const {
    VEOMNI_CHECK(index >= 0 && index < size_, "record ", index, " of a source with ", size_);
    return *(std::upper_bound(parts_.begin(), parts_.end(), index,
                              [](int64_t value, const Part& part) { return value < part.first; }) -
             1);
  }

  int64_t max_record_bytes_;
  int64_t size_ = 0;
  std::vector<Part> parts_;
};
}  // namespace

std::unique_ptr<Source> open_file_source(const FileSourceOptions& options) {
  return std::make_unique<FileSource>(options);
}

}  // namespace veomni::data
