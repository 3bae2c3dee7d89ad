// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/media_location.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>

#include "base64.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
namespace fs = std::filesystem;

bool starts_with(std::string_view text, std::string_view beginning) {
  return text.substr(0, beginning.size()) == beginning;
}

// "http" of "http://…"; "" where the text is a path. One letter is no scheme.
std::string_view scheme_of(std::string_view text) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-";
  const size_t end = text.find_first_not_of(kLetters);
  const bool is_scheme = end != std::string_view::npos && end > 1 && text[end] == ':' &&
                         (starts_with(text.substr(end), "://") || text.substr(0, end) == "data" ||
                          text.substr(0, end) == "file");
  return is_scheme ? text.substr(0, end) : std::string_view();
}

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

std::string without_percent_codes(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// file:///a, file:/a and file://localhost/a; file://b (seen in the wild) is a relative path.
std::string path_of_file_uri(std::string_view uri) {
  std::string_view rest = uri.substr(std::string_view("file:").size());
  if (starts_with(rest, "//localhost/")) {
    rest.remove_prefix(std::string_view("//localhost").size());
  } else if (starts_with(rest, "//")) {
    rest.remove_prefix(2);
  }
  return without_percent_codes(rest);
}

size_t data_begin(std::string_view location) {
  constexpr std::string_view kMark = ";base64,";
  const size_t comma = location.find(',');
  const size_t mark =
      location.substr(0, comma == std::string_view::npos ? 0 : comma + 1).rfind(kMark);
  return mark == std::string_view::npos ? mark : mark + kMark.size();
}

bool is_data(std::string_view location) { return starts_with(location, "data:"); }

std::vector<std::byte> read_file(const std::string& path, int64_t max_bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  // Opening a pipe would wait for its writer.
  if (fs::exists(status) && !fs::is_regular_file(status)) throw BadRecord("is no regular file");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(path.c_str(), "rb"),
                                                           &std::fclose);
  if (!in) throw BadRecord(std::string("cannot be opened: ") + std::strerror(errno));
  const auto size = static_cast<int64_t>(fs::file_size(path, error));
  if (error) throw BadRecord("cannot be read: " + error.message());
  if (size > max_bytes) {
    throw BadRecord("has " + std::to_string(size) +
                    " bytes, more than data.max_media_bytes: " + std::to_string(max_bytes));
  }
  std::vector<std::byte> bytes(static_cast<size_t>(size));
  const size_t got = std::fread(bytes.data(), 1, bytes.size(), in.get());
  if (got != bytes.size()) throw BadRecord("cannot be read to its end");
  return bytes;
}
}  // namespace

std::string parse_location(std::string text) {
  if (text.empty()) throw BadRecord("is an empty location");
  const std::string_view scheme = scheme_of(text);
  if (scheme == "data") {
    if (data_begin(text) == std::string_view::npos)
      throw BadRecord("is a data: URI without \";base64,\"; only base64 is read");
    return text;
  }
  if (scheme == "file") return path_of_file_uri(text);
  if (!scheme.empty()) {
    throw BadRecord("lies at " + text.substr(0, 200) + ", but nothing is fetched over " +
                    std::string(scheme) + ": download it and give a path, file:// or data: URI");
  }
  if (text.find('\0') != std::string::npos) throw BadRecord("has a path with a NUL byte");
  return text;
}

std::string resolve_location(std::string location, const std::string& directory) {
  if (is_data(location) || fs::path(location).is_absolute()) return location;
  return (fs::path(directory) / location).string();
}

std::string describe_location(const std::string& location) {
  if (!is_data(location)) return location;
  const size_t begin = data_begin(location);
  return location.substr(0, std::min<size_t>(begin, 60)) + "… (" +
         std::to_string(location.size() - begin) + " characters)";
}

std::vector<std::byte> read_location(const std::string& location, int64_t max_bytes) {
  if (!is_data(location)) return read_file(location, max_bytes);
  const std::string_view digits = std::string_view(location).substr(data_begin(location));
  if (static_cast<int64_t>(digits.size() / 4 * 3) > max_bytes) {
    throw BadRecord("has more bytes than data.max_media_bytes: " + std::to_string(max_bytes));
  }
  return decode_base64(digits);
}

}  // namespace veomni::data
