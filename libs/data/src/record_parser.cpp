// SPDX-License-Identifier: Apache-2.0
#include "record_parser.h"

#include <nlohmann/json.hpp>

#include "utf8.h"

namespace veomni::data {

namespace {
using nlohmann::json;

[[noreturn]] void reject(const std::string& reason) { throw BadRecord(reason); }

const char* kind_of(const json& value) { return value.type_name(); }

std::string text_of_parts(const json& parts, const std::string& at) {
  std::string text;
  for (const json& part : parts) {
    const bool is_text = part.is_object() && part.value("type", json()) == "text" &&
                         part.contains("text") && part["text"].is_string();
    if (!is_text) reject(at + " has a part that is not {\"type\": \"text\", \"text\": …}");
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

Message message_of(const json& value, const std::string& at) {
  if (!value.is_object()) reject(at + " is not an object but " + kind_of(value));
  Message message;
  if (!value.contains("role")) reject(at + " has no \"role\"");
  if (!value["role"].is_string())
    reject(at + ".role is not a string but " + kind_of(value["role"]));
  message.role = value["role"].get<std::string>();
  if (message.role.empty()) reject(at + ".role is empty");
  if (!value.contains("content")) reject(at + " has no \"content\"");
  const json& content = value["content"];
  if (content.is_string()) {
    message.content = content.get<std::string>();
  } else if (content.is_array()) {
    message.content = text_of_parts(content, at + ".content");
  } else {
    reject(at + ".content is neither a string nor a list of parts but " + kind_of(content));
  }
  return message;
}

// The library's message without its "[json.exception.…] " tag.
std::string plain_message(const json::exception& error) {
  const std::string what = error.what();
  const size_t tag_end = what.find("] ");
  return tag_end == std::string::npos ? what : what.substr(tag_end + 2);
}

// Deeper values are no record of ours; a line of nothing but '[' would take a hundred times its size in memory.
constexpr int kDeepest = 64;

json parse(std::string_view line) {
  const auto check_depth = [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) reject("nested deeper than " + std::to_string(kDeepest) + " levels");
    return true;
  };
  try {
    return json::parse(line, check_depth);
  } catch (const json::exception& error) {
    reject("not JSON: " + plain_message(error));
  }
}
}  // namespace

Record parse_json_record(std::string_view line) {
  const json value = parse(line);
  if (!value.is_object()) reject(std::string("not an object but ") + kind_of(value));
  Record record;
  if (value.contains("messages")) {
    const json& messages = value["messages"];
    if (!messages.is_array())
      reject(std::string("\"messages\" is not a list but ") + kind_of(messages));
    if (messages.empty()) reject("\"messages\" is empty");
    for (size_t i = 0; i < messages.size(); ++i) {
      record.messages.push_back(message_of(messages[i], "messages[" + std::to_string(i) + "]"));
    }
  } else if (value.contains("text")) {
    if (!value["text"].is_string())
      reject(std::string("\"text\" is not a string but ") + kind_of(value["text"]));
    record.text = value["text"].get<std::string>();
  } else {
    reject("has neither \"messages\" nor \"text\"");
  }
  return record;
}

Record parse_text_record(std::string_view text) {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid != std::string_view::npos)
    reject("not UTF-8 at byte " + std::to_string(invalid) + " of the record");
  Record record;
  record.text = text;
  return record;
}

}  // namespace veomni::data
