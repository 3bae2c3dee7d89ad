// SPDX-License-Identifier: Apache-2.0
// The stream's state as JSON, and the checks that a state fits the stream.
#include <utility>

#include "sample_stream.h"

namespace veomni::data {

namespace {
using nlohmann::json;

constexpr std::pair<const char*, int64_t SourceCounts::*> kCountFields[] = {
    {"used", &SourceCounts::records},        {"samples", &SourceCounts::samples},
    {"tokens", &SourceCounts::tokens},       {"bad", &SourceCounts::bad},
    {"truncated", &SourceCounts::truncated}, {"split", &SourceCounts::split},
    {"too_long", &SourceCounts::too_long},   {"epoch", &SourceCounts::epoch},
};

json to_json(const std::vector<std::vector<SampleRef>>& bins) {
  json all = json::array();
  for (const auto& refs : bins) {
    json& bin = all.emplace_back(json::array());
    for (const SampleRef& ref : refs) bin.push_back({ref.source, ref.record, ref.chunk, ref.epoch});
  }
  return all;
}

std::vector<std::vector<SampleRef>> bins_of(const json& value) {
  std::vector<std::vector<SampleRef>> bins;
  for (const json& refs : value) {
    auto& bin = bins.emplace_back();
    for (const json& ref : refs) {
      bin.push_back({ref.at(0).get<int32_t>(), ref.at(1).get<int64_t>(), ref.at(2).get<int32_t>(),
                     ref.at(3).get<int64_t>()});
    }
  }
  return bins;
}

template <typename Processors> json modalities_of(const Processors& processors) {
  json modalities = json::array();
  for (const auto& [modality, processor] : processors) modalities.push_back(modality);
  return modalities;
}

json tokens_of(const MediaTokens& tokens) { return {tokens.begin, tokens.pad, tokens.end}; }

void check_settings(const json& saved, const json& now) {
  for (const auto& [key, value] : now.items()) {
    VEOMNI_CHECK(saved.contains(key) && saved[key] == value, "data state does not fit: ", key,
                 " was ", saved.contains(key) ? saved[key].dump() : "not saved", ", is ",
                 value.dump());
  }
}
}  // namespace

json SampleStream::settings() const {
  return {{"version", 2},
          {"seed", seed_},
          {"micro_batch_tokens", micro_batch_tokens_},
          {"shuffle", options_.shuffle},
          {"template", options_.chat_template},
          {"append_eos", options_.append_eos},
          {"max_sample_tokens", options_.max_sample_tokens},
          {"long_sample", options_.long_sample},
          {"open_bins", options_.open_bins},
          {"encoders", modalities_of(processors_.inputs)},
          {"decoders", modalities_of(processors_.targets)},
          {"only_targets", processors_.only_targets},
          {"media_tokens", {tokens_of(options_.media.image), tokens_of(options_.media.audio)}}};
}

json SampleStream::to_json(const StreamState& state) const {
  json sources = json::array();
  for (int i = 0; i < sources_.size(); ++i) {
    json source = {{"name", sources_.names()[i]},
                   {"records", sources_.records(i)},
                   {"drop_condition", options_.sources[i].drop_condition},
                   {"position", state.cursors[i].position},
                   {"usable_in_epoch", state.cursors[i].usable_in_epoch}};
    for (const auto& [key, field] : kCountFields) source[key] = state.counts[i].*field;
    sources.push_back(std::move(source));
  }
  return {{"settings", settings()},
          {"draws", state.draws},
          {"sources", std::move(sources)},
          {"open", data::to_json(state.open)},
          {"ready", data::to_json(state.ready)}};
}

StreamState SampleStream::from_json(const json& saved) const {
  try {
    check_settings(saved.at("settings"), settings());
    StreamState state;
    state.counts = sources_.no_counts();
    state.draws = saved.at("draws").get<int64_t>();
    const json& sources = saved.at("sources");
    VEOMNI_CHECK(sources.size() == sources_.names().size(), "data state does not fit: it has ",
                 sources.size(), " sources, the recipe ", sources_.size());
    for (int i = 0; i < sources_.size(); ++i) {
      const json& source = sources.at(i);
      const std::string name = source.at("name").get<std::string>();
      VEOMNI_CHECK(name == sources_.names()[i], "data state does not fit: source ", i, " was '",
                   name, "', is '", sources_.names()[i], "'");
      VEOMNI_CHECK(source.at("records") == sources_.records(i), "data state does not fit: source '",
                   name, "' had ", source.at("records").dump(), " records, now has ",
                   sources_.records(i));
      const double drop = options_.sources[i].drop_condition;
      VEOMNI_CHECK(source.at("drop_condition") == drop, "data state does not fit: source '", name,
                   "' had drop_condition ", source.at("drop_condition").dump(), ", now has ", drop);
      const StreamState::Cursor cursor{source.at("position").get<int64_t>(),
                                       source.at("usable_in_epoch").get<int64_t>()};
      VEOMNI_CHECK(cursor.position >= 0 && cursor.position < sources_.records(i),
                   "data state: position ", cursor.position, " in source '", name,
                   "' is outside its records");
      state.cursors.push_back(cursor);
      for (const auto& [key, field] : kCountFields)
        state.counts[i].*field = source.at(key).get<int64_t>();
    }
    state.open = bins_of(saved.at("open"));
    state.ready = bins_of(saved.at("ready"));
    return state;
  } catch (const json::exception& error) {
    throw_error(std::string("data state is malformed: ") + error.what());
  }
}

}  // namespace veomni::data
