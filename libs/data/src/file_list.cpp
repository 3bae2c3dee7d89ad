// SPDX-License-Identifier: Apache-2.0
#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "veomni/data/source.h"

namespace veomni::data {

namespace {
namespace fs = std::filesystem;

std::vector<std::string> files_in_directory(const std::string& path) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string extension = entry.path().extension().string();
    const bool taken = extension == ".jsonl" || extension == ".json" || extension == ".txt";
    if (taken && entry.is_regular_file()) files.push_back(entry.path().string());
  }
  return files;
}

std::vector<std::string> files_of_glob(const std::string& pattern) {
  std::vector<std::string> files;
  glob_t found{};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) {
      if (fs::is_regular_file(found.gl_pathv[i])) files.push_back(found.gl_pathv[i]);
    }
  }
  globfree(&found);
  return files;
}
}  // namespace

std::vector<std::string> list_source_files(const std::string& path) {
  VEOMNI_CHECK_CONFIG(!path.empty(), "data source without a path");
  std::error_code error;
  std::vector<std::string> files;
  if (fs::is_regular_file(path, error)) {
    files = {path};
  } else if (fs::is_directory(path, error)) {
    files = files_in_directory(path);
    VEOMNI_CHECK_CONFIG(!files.empty(), "data source ", path,
                        ": the directory holds no .jsonl, .json or .txt file");
  } else {
    files = files_of_glob(path);
    VEOMNI_CHECK_CONFIG(!files.empty(), "data source ", path,
                        ": no such file or directory, and as a pattern it matches no file");
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace veomni::data
