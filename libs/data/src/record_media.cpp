// SPDX-License-Identifier: Apache-2.0
#include "record_media.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "veomni/data/media_location.h"

namespace veomni::data {

namespace {
using nlohmann::json;

[[noreturn]] void reject(const std::string& reason) { throw BadRecord(reason); }

json* find(json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

json* list_in(json& record, const std::string& key) {
  json* value = find(record, key);
  if (!value || (value->is_string() && value->get_ref<std::string&>().empty())) return nullptr;
  return value->is_array() && value->empty() ? nullptr : value;
}

std::string string_of(json& value, const std::string& at) {
  if (!value.is_string()) reject(at + " is not a string but " + value.type_name());
  return std::move(value.get_ref<std::string&>());
}

std::string checked_location(std::string text, const std::string& at) {
  try {
    return parse_location(std::move(text));
  } catch (const BadRecord& bad) {
    reject(at + " " + bad.what());
  }
}

// The location that an object's "url", "path" or "base64" gives, or its `own_key`; none if it has none of them.
std::optional<std::string> location_in(json& object, const std::string& own_key,
                                       const std::string& at);

// A location written as a string or as an object.
std::string location_of(json& value, const std::string& at) {
  if (value.is_object()) {
    if (auto location = location_in(value, "", at)) return std::move(*location);
    reject(at + " has none of \"url\", \"path\", \"base64\"");
  }
  return checked_location(string_of(value, at), at);
}

std::optional<std::string> location_in(json& object, const std::string& own_key,
                                       const std::string& at) {
  for (const std::string& key : {own_key, std::string("url"), std::string("path")}) {
    if (key.empty()) continue;
    if (json* value = find(object, key)) return location_of(*value, at + "." + key);
  }
  if (json* digits = find(object, "base64"))
    return "data:;base64," + string_of(*digits, at + ".base64");
  return std::nullopt;
}

std::string input_audio_location(json& part, const std::string& at) {
  json* audio = find(part, "input_audio");
  json* digits = audio && audio->is_object() ? find(*audio, "data") : nullptr;
  if (!digits) reject(at + " has no \"input_audio\": {\"data\": …}");
  return "data:;base64," + string_of(*digits, at + ".input_audio.data");
}

void append_media(const std::string& modality, std::optional<std::string> location,
                  Message& message) {
  message.media.push_back({modality, location.value_or(""), message.content.size()});
}

std::string tag_of(const std::string& modality) { return "<" + modality + ">"; }

std::string count_of(size_t count, const char* one, const char* several) {
  return std::to_string(count) + " " + (count == 1 ? one : several);
}
}  // namespace

std::span<const std::string> record_modalities() {
  static const std::vector<std::string> modalities = {"image", "audio"};
  return modalities;
}

bool MediaLists::in(json& record) {
  for (const std::string& modality : record_modalities()) {
    if (list_in(record, modality) || list_in(record, modality + "s")) return true;
  }
  return false;
}

MediaLists::MediaLists(json& record) {
  for (const std::string& modality : record_modalities()) {
    for (const std::string& key : {modality, modality + "s"}) {
      json* value = list_in(record, key);
      if (!value) continue;
      if (has(modality)) reject("has both \"" + modality + "\" and \"" + key + "\"");
      Files& files = files_[modality];
      files.key = key;
      if (!value->is_array()) {
        files.locations.push_back(location_of(*value, key));
        continue;
      }
      for (size_t i = 0; i < value->size(); ++i)
        files.locations.push_back(location_of((*value)[i], key + "[" + std::to_string(i) + "]"));
    }
  }
}

std::vector<MediaPart> MediaLists::take_all() {
  std::vector<MediaPart> all;
  for (const std::string& modality : record_modalities()) {
    if (!has(modality)) continue;
    for (std::string& location : files_[modality].locations)
      all.push_back({modality, std::move(location)});
  }
  return all;
}

void MediaLists::fill(std::span<Message> messages) {
  for (const std::string& modality : record_modalities()) {
    std::vector<MediaPart*> places;
    for (Message& message : messages) {
      for (MediaPart& part : message.media) {
        if (part.modality == modality && part.location.empty()) places.push_back(&part);
      }
    }
    const auto files = files_.find(modality);
    const size_t count = files == files_.end() ? 0 : files->second.locations.size();
    if (places.size() != count) {
      reject(count_of(places.size(), "place", "places") + " for " + modality + " (" +
             tag_of(modality) + " or {\"type\": \"" + modality + "\"}), but " +
             count_of(count, "file", "files") + " in \"" +
             (files == files_.end() ? modality + "s" : files->second.key) + "\"");
    }
    for (size_t i = 0; i < count; ++i) places[i]->location = std::move(files->second.locations[i]);
  }
}

void append_part(json& part, const std::string& at, Message& message) {
  json* type = part.is_object() ? find(part, "type") : nullptr;
  if (!type || !type->is_string()) reject(at + " is no object with a \"type\"");
  const std::string kind = type->get<std::string>();
  if (kind == "text") {
    json* text = find(part, "text");
    if (!text) reject(at + " has no \"text\"");
    message.content += string_of(*text, at + ".text");
    return;
  }
  if (kind == "input_audio") return append_media("audio", input_audio_location(part, at), message);
  for (const std::string& modality : record_modalities()) {
    if (kind == modality) return append_media(modality, location_in(part, modality, at), message);
    if (kind != modality + "_url") continue;
    json* value = find(part, kind);
    if (!value) reject(at + " has no \"" + kind + "\"");
    return append_media(modality, location_of(*value, at + "." + kind), message);
  }
  reject(at + " is of type \"" + kind +
         "\"; known are text, image, image_url, audio, audio_url, input_audio");
}

void cut_tags(std::span<const std::string> modalities, Message& message) {
  const std::string& content = message.content;
  std::string kept;
  size_t done = 0;
  for (size_t at = content.find('<'); at != std::string::npos; at = content.find('<', at)) {
    const auto tag =
        std::find_if(modalities.begin(), modalities.end(), [&](const std::string& modality) {
          const std::string text = tag_of(modality);
          return content.compare(at, text.size(), text) == 0;
        });
    if (tag == modalities.end()) {
      ++at;
      continue;
    }
    kept.append(content, done, at - done);
    message.media.push_back({*tag, "", kept.size()});
    done = at += tag_of(*tag).size();
  }
  if (done == 0) return;
  kept.append(content, done);
  message.content = std::move(kept);
}

}  // namespace veomni::data
