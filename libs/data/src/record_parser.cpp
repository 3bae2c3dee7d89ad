// SPDX-License-Identifier: Apache-2.0
#include "record_parser.h"

#include <nlohmann/json.hpp>
#include <span>

#include "record_media.h"
#include "utf8.h"

namespace veomni::data {

namespace {
using nlohmann::json;

[[noreturn]] void reject(const std::string& reason) { throw BadRecord(reason); }

const char* kind_of(const json& value) { return value.type_name(); }

json* find(json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

// What a conversation's form calls a message's fields.
struct Keys {
  const char* role;
  const char* content;
};

std::string role_of(json& value, const char* key, const std::string& at) {
  json* role = find(value, key);
  if (!role) reject(at + " has no \"" + key + "\"");
  if (!role->is_string()) reject(at + "." + key + " is not a string but " + kind_of(*role));
  std::string name = std::move(role->get_ref<std::string&>());
  if (name.empty()) reject(at + "." + key + " is empty");
  if (name == "human") return "user";
  if (name == "gpt") return "assistant";
  return name;
}

Message message_of(json& value, const Keys& keys, std::span<const std::string> tags,
                   const std::string& at) {
  if (!value.is_object()) reject(at + " is not an object but " + kind_of(value));
  Message message;
  message.role = role_of(value, keys.role, at);
  json* content = find(value, keys.content);
  const std::string content_at = at + "." + keys.content;
  if (!content) reject(at + " has no \"" + keys.content + "\"");
  if (content->is_string()) {
    message.content = std::move(content->get_ref<std::string&>());
    cut_tags(tags, message);
  } else if (content->is_array()) {
    for (size_t i = 0; i < content->size(); ++i)
      append_part((*content)[i], content_at + "[" + std::to_string(i) + "]", message);
  } else {
    reject(content_at + " is neither a string nor a list of parts but " + kind_of(*content));
  }
  return message;
}

void reject_video(json& record) {
  for (const char* key : {"video", "videos"}) {
    const json* value = find(record, key);
    if (value && !value->empty() && *value != "")
      reject(std::string("has \"") + key + "\": video is not read");
  }
}

// The messages under `key`, every picture and clip with its location.
std::vector<Message> messages_of(json& record, const char* key) {
  reject_video(record);
  MediaLists lists(record);
  json& list = *find(record, key);
  const std::string quoted = std::string("\"") + key + "\"";
  if (!list.is_array()) reject(quoted + " is not a list but " + kind_of(list));
  if (list.empty()) reject(quoted + " is empty");
  const bool is_llava = std::string_view(key) == "conversations";
  const Keys keys = is_llava && list[0].is_object() && list[0].contains("from")
                        ? Keys{"from", "value"}
                        : Keys{"role", "content"};
  // Elsewhere "<image>" without a list of files is text like any other.
  std::vector<std::string> tags;
  for (const std::string& modality : record_modalities()) {
    if (is_llava || lists.has(modality)) tags.push_back(modality);
  }
  std::vector<Message> messages;
  for (size_t i = 0; i < list.size(); ++i)
    messages.push_back(message_of(list[i], keys, tags, key + ("[" + std::to_string(i) + "]")));
  lists.fill(messages);
  return messages;
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
  json value = parse(line);
  if (!value.is_object()) reject(std::string("not an object but ") + kind_of(value));
  Record record;
  if (value.contains("messages")) {
    record.messages = messages_of(value, "messages");
  } else if (value.contains("conversations")) {
    record.messages = messages_of(value, "conversations");
  } else if (json* text = find(value, "text")) {
    if (!text->is_string()) reject(std::string("\"text\" is not a string but ") + kind_of(*text));
    if (MediaLists::in(value))
      reject("has media beside \"text\": say in \"messages\" where they stand");
    record.text = std::move(text->get_ref<std::string&>());
  } else if (MediaLists::in(value)) {
    record.media = MediaLists(value).take_all();
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
