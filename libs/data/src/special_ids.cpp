// SPDX-License-Identifier: Apache-2.0
#include "special_ids.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "veomni/base/error.h"

namespace veomni::data {

namespace {
using nlohmann::json;

// The file's object; an empty one if the file does not exist.
json read_object(const std::string& file) {
  if (!std::filesystem::exists(file)) return json::object();
  std::ifstream in(file, std::ios::binary);
  VEOMNI_CHECK_CONFIG(in.good(), file, ": cannot be read");
  json value = json::parse(in, nullptr, false);
  VEOMNI_CHECK(value.is_object(), file, ": is not a JSON object");
  return value;
}

std::optional<int32_t> find_id(const io::TokenizerSpec& spec, const std::string& token) {
  for (const io::AddedToken& added : spec.added_tokens) {
    if (added.content == token) return added.id;
  }
  const auto found = spec.vocab.find(token);
  return found == spec.vocab.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

std::optional<int32_t> named_id(const json& config, const char* key, const io::TokenizerSpec& spec,
                                const std::string& file) {
  if (!config.contains(key)) return std::nullopt;
  const json& value = config[key].is_object() && config[key].contains("content")
                          ? config[key]["content"]
                          : config[key];
  if (value.is_null()) return std::nullopt;
  VEOMNI_CHECK(value.is_string(), file, ": ", key, " must be a token, is ", value.dump());
  const auto id = find_id(spec, value.get<std::string>());
  VEOMNI_CHECK(id, file, ": ", key, " is ", value.dump(), ", which the tokenizer does not have");
  return id;
}

std::vector<int32_t> listed_ids(const json& config, const char* key, const std::string& file) {
  if (!config.contains(key) || config[key].is_null()) return {};
  const json list = config[key].is_array() ? config[key] : json::array({config[key]});
  std::vector<int32_t> ids;
  for (const json& id : list) {
    VEOMNI_CHECK(id.is_number_integer() && id >= 0 && id <= INT32_MAX, file, ": ", key, " holds ",
                 id.dump(), ", which is no token id");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

std::optional<int32_t> first_of(std::optional<int32_t> id, const std::vector<int32_t>& otherwise) {
  return id || otherwise.empty() ? id : otherwise.front();
}
}  // namespace

SpecialIds default_special_ids(const io::TokenizerSpec& spec) {
  SpecialIds special;
  special.eos = find_id(spec, "<|endoftext|>");
  if (special.eos) special.stop = {*special.eos};
  return special;
}

SpecialIds read_special_ids(const std::string& directory, const io::TokenizerSpec& spec) {
  const std::string names_file =
      (std::filesystem::path(directory) / "tokenizer_config.json").string();
  const std::string ids_file =
      (std::filesystem::path(directory) / "generation_config.json").string();
  const json names = read_object(names_file), ids = read_object(ids_file);
  const auto stop = listed_ids(ids, "eos_token_id", ids_file);
  SpecialIds special;
  special.bos = first_of(named_id(names, "bos_token", spec, names_file),
                         listed_ids(ids, "bos_token_id", ids_file));
  special.eos = first_of(named_id(names, "eos_token", spec, names_file), stop);
  special.pad = first_of(named_id(names, "pad_token", spec, names_file),
                         listed_ids(ids, "pad_token_id", ids_file));
  if (!special.eos) special.eos = default_special_ids(spec).eos;
  if (special.eos) special.stop = {*special.eos};
  for (const int32_t id : stop) {
    if (std::find(special.stop.begin(), special.stop.end(), id) == special.stop.end())
      special.stop.push_back(id);
  }
  return special;
}

}  // namespace veomni::data
