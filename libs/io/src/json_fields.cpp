// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/json_fields.h"

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/io/mapped_file.h"

namespace veomni::io {

using nlohmann::json;

json parse_json(std::string_view text, const std::string& where) {
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    std::string problem = error.what();
    // "[json.exception.parse_error.101] parse error at line 3, ..."
    const size_t end = problem.find("] ");
    if (end != std::string::npos) problem.erase(0, end + 2);
    constexpr size_t kLongest = 300;
    if (problem.size() > kLongest) problem = problem.substr(0, kLongest) + "...";
    throw_config_error(where + ": not valid JSON: " + problem);
  }
}

json read_json_file(const std::string& path) { return parse_json(MappedFile(path).text(), path); }

std::string brief_json(const json& value) {
  if (value.is_object() || value.is_array()) {
    return detail::concat(value.is_object() ? "an object" : "a list", " of ", value.size());
  }
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= 100 ? text : text.substr(0, 100) + "...";
}

void check_positive(std::initializer_list<std::pair<const char*, int64_t>> sizes,
                    const std::string& where) {
  for (const auto& [name, value] : sizes)
    VEOMNI_CHECK_CONFIG(value > 0, where, ": ", name, " must be more than 0, got ", value);
}

bool has_value(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

namespace {

const json& require(const json& object, const char* key, const std::string& where) {
  VEOMNI_CHECK_CONFIG(object.is_object(), where, ": needs an object with '", key, "', has ",
                      brief_json(object));
  const auto found = object.find(key);
  VEOMNI_CHECK_CONFIG(found != object.end(), where, ": '", key, "' is missing");
  return *found;
}

void check_kind(bool right, const json& value, const char* key, const char* kind,
                const std::string& where) {
  VEOMNI_CHECK_CONFIG(right, where, ": '", key, "' must be ", kind, ", is ", brief_json(value));
}

}  // namespace

int64_t require_int(const json& object, const char* key, const std::string& where) {
  const json& value = require(object, key, where);
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  check_kind(fits, value, key, "a whole number", where);
  return value.get<int64_t>();
}

double require_double(const json& object, const char* key, const std::string& where) {
  const json& value = require(object, key, where);
  check_kind(value.is_number(), value, key, "a number", where);
  return value.get<double>();
}

bool require_bool(const json& object, const char* key, const std::string& where) {
  const json& value = require(object, key, where);
  check_kind(value.is_boolean(), value, key, "true or false", where);
  return value.get<bool>();
}

std::string require_string(const json& object, const char* key, const std::string& where) {
  const json& value = require(object, key, where);
  check_kind(value.is_string(), value, key, "a string", where);
  return value.get<std::string>();
}

const json& require_object(const json& object, const char* key, const std::string& where) {
  const json& value = require(object, key, where);
  check_kind(value.is_object(), value, key, "an object", where);
  return value;
}

const json& require_array(const json& object, const char* key, const std::string& where) {
  const json& value = require(object, key, where);
  check_kind(value.is_array(), value, key, "a list", where);
  return value;
}

int64_t get_or(const json& object, const char* key, int64_t otherwise, const std::string& where) {
  return has_value(object, key) ? require_int(object, key, where) : otherwise;
}

int64_t get_or(const json& object, const char* key, int otherwise, const std::string& where) {
  return get_or(object, key, int64_t{otherwise}, where);
}

double get_or(const json& object, const char* key, double otherwise, const std::string& where) {
  return has_value(object, key) ? require_double(object, key, where) : otherwise;
}

bool get_or(const json& object, const char* key, bool otherwise, const std::string& where) {
  return has_value(object, key) ? require_bool(object, key, where) : otherwise;
}

std::string get_or(const json& object, const char* key, const std::string& otherwise,
                   const std::string& where) {
  return has_value(object, key) ? require_string(object, key, where) : otherwise;
}

std::string get_or(const json& object, const char* key, const char* otherwise,
                   const std::string& where) {
  return get_or(object, key, std::string(otherwise), where);
}

}  // namespace veomni::io
