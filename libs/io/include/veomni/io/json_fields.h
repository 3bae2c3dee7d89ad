// SPDX-License-Identifier: Apache-2.0
/// JSON files written by other programs: parse errors with a place, typed getters whose errors name
/// file and key. (Our own recipes are YAML: veomni/base/fields.h.)
///
/// `where` is what a message begins with: the file, or "config.json: text_config" for an object in it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace veomni::io {

/// @throws ConfigError "<where>: not valid JSON: parse error at line 3, column 7: ..."
nlohmann::json parse_json(std::string_view text, const std::string& where);

/// @throws ConfigError if the file cannot be read or parsed
nlohmann::json read_json_file(const std::string& path);

/// The value under `key`, of the type asked for.
/// @throws ConfigError if `object` is no object, lacks the key, or holds another type under it
int64_t require_int(const nlohmann::json& object, const char* key, const std::string& where);
double require_double(const nlohmann::json& object, const char* key, const std::string& where);
bool require_bool(const nlohmann::json& object, const char* key, const std::string& where);
std::string require_string(const nlohmann::json& object, const char* key, const std::string& where);
const nlohmann::json& require_object(const nlohmann::json& object, const char* key,
                                     const std::string& where);
const nlohmann::json& require_array(const nlohmann::json& object, const char* key,
                                    const std::string& where);

/// The same, with a default where the key is absent or null.
int64_t get_or(const nlohmann::json& object, const char* key, int64_t otherwise,
               const std::string& where);
int64_t get_or(const nlohmann::json& object, const char* key, int otherwise,
               const std::string& where);
double get_or(const nlohmann::json& object, const char* key, double otherwise,
              const std::string& where);
bool get_or(const nlohmann::json& object, const char* key, bool otherwise,
            const std::string& where);
std::string get_or(const nlohmann::json& object, const char* key, const char* otherwise,
                   const std::string& where);
std::string get_or(const nlohmann::json& object, const char* key, const std::string& otherwise,
                   const std::string& where);

/// Whether the key is there with a value other than null.
bool has_value(const nlohmann::json& object, const char* key);

/// Sizes that cannot be 0 or less, by the keys they were read from.
/// @throws ConfigError naming the first that is
void check_positive(std::initializer_list<std::pair<const char*, int64_t>> sizes,
                    const std::string& where);

/// A value as a message shows it: its JSON, cut to some 100 bytes.
std::string brief_json(const nlohmann::json& value);

}  // namespace veomni::io
