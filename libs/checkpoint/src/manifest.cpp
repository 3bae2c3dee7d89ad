// SPDX-License-Identifier: Apache-2.0
#include "veomni/checkpoint/manifest.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "veomni/base/error.h"
#include "veomni/io/digest.h"
#include "veomni/io/json_fields.h"
#include "veomni/io/mapped_file.h"
#include "veomni/io/output_file.h"

namespace veomni::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr const char* kManifest = "manifest.json";

std::string hash_file(const std::string& path) {
  const io::MappedFile file(path);
  return io::digest(file.bytes().data(), file.bytes().size());
}

// What the manifest's own checksum covers.
std::string hash_entries(const nlohmann::json& files) {
  const std::string text = files.dump();
  return io::digest(text.data(), text.size());
}

}  // namespace

void write_manifest(const std::string& directory) {
  auto files = nlohmann::json::object();
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name == kManifest) continue;
    files[name] = {{"bytes", fs::file_size(entry.path())},
                   {"xxh3_128", hash_file(entry.path().string())}};
  }
  const nlohmann::json manifest = {
      {"files", files}, {"version", 1}, {"xxh3_128", hash_entries(files)}};
  io::write_file(directory + "/" + kManifest, manifest.dump(1), {.fsync = true});
}

void check_manifest(const std::string& directory, Check check) {
  const std::string path = directory + "/" + kManifest;
  VEOMNI_CHECK(fs::is_regular_file(path), directory, " is not a complete checkpoint: it has no ",
               kManifest);
  const auto manifest = io::read_json_file(path);
  const auto& files = io::require_object(manifest, "files", path);
  VEOMNI_CHECK(io::require_string(manifest, "xxh3_128", path) == hash_entries(files), path,
               ": its own checksum is wrong; the file was changed or damaged");
  for (const auto& [name, facts] : files.items()) {
    const std::string file = directory + "/" + name;
    std::error_code error;
    const auto size = fs::file_size(file, error);
    VEOMNI_CHECK(!error, file, " is missing: ", error.message());
    const auto expected = static_cast<uintmax_t>(io::require_int(facts, "bytes", path));
    VEOMNI_CHECK(size == expected, file, " has ", size, " bytes, its manifest says ", expected);
    if (check == Check::kSizes) continue;
    VEOMNI_CHECK(hash_file(file) == io::require_string(facts, "xxh3_128", path), file,
                 ": checksum is wrong; the file is damaged. Resume from an older checkpoint with "
                 "checkpoint.resume");
  }
}

}  // namespace veomni::checkpoint
