// SPDX-License-Identifier: Apache-2.0
/// The pictures and clips of one JSON record: where they stand in its messages and where they lie.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "veomni/data/source.h"

namespace veomni::data {

/// A record's top-level lists ("images": […], "audio": "a.wav", …), to be matched with places in the messages.
/// null, "" and [] are no list.
class MediaLists {
 public:
  static bool in(nlohmann::json& record);
  /// Takes the lists out of `record`. @throws BadRecord
  explicit MediaLists(nlohmann::json& record);

  bool empty() const { return files_.empty(); }
  bool has(const std::string& modality) const { return files_.count(modality) > 0; }
  /// The lists themselves, for a record of nothing else.
  std::vector<MediaPart> take_all();
  /// Gives the places that no location stands at yet theirs, in order.
  /// @throws BadRecord that names both counts if they differ
  void fill(std::span<Message> messages);

 private:
  struct Files {
    std::string key;
    std::vector<std::string> locations;
  };
  std::map<std::string, Files> files_;  // by modality
};

/// Puts one part of a content list behind a message's content.
/// @param at  names the part in messages. @throws BadRecord
void append_part(nlohmann::json& part, const std::string& at, Message& message);

/// Cuts the tags ("<image>") of `modalities` out of the content and notes where they stood.
void cut_tags(std::span<const std::string> modalities, Message& message);

/// The modalities a record may hold.
std::span<const std::string> record_modalities();

}  // namespace veomni::data
