// SPDX-License-Identifier: Apache-2.0
#include "source_set.h"

#include <algorithm>

#include "veomni/base/context.h"
#include "veomni/base/log.h"
#include "veomni/base/rng.h"

namespace veomni::data {

namespace {
constexpr int64_t kLogEvery = 100;
}

SourceSet::SourceSet(const DataOptions& options, int64_t micro_batch_tokens,
                     const Tokenizer& tokenizer, const MediaProcessors& processors,
                     std::optional<uint64_t> drop_seed)
    : drop_seed_(drop_seed),
      maker_(options, micro_batch_tokens, tokenizer, processors),
      fail_on_bad_(options.on_bad_record == "fail") {
  VEOMNI_CHECK_CONFIG(!options.sources.empty(),
                      "data.sources is empty: name at least one, e.g. "
                      "sources: [{path: train.jsonl}]");
  for (const SourceOptions& source : options.sources) {
    const std::string& name = source.name.empty() ? source.path : source.name;
    VEOMNI_CHECK_CONFIG(std::find(names_.begin(), names_.end(), name) == names_.end(),
                        "data.sources: two are named '", name, "'; give each a name of its own");
    names_.push_back(name);
    drop_condition_.push_back(source.drop_condition);
    sources_.push_back(open_file_source({.path = source.path,
                                         .format = source.format,
                                         .max_record_bytes = options.max_record_bytes}));
  }
}

std::vector<SourceCounts> SourceSet::no_counts() const {
  std::vector<SourceCounts> counts(names_.size());
  for (size_t i = 0; i < names_.size(); ++i) counts[i].name = names_[i];
  return counts;
}

// Keyed by what the sample is, not by when it is drawn, so that every layout drops the same.
bool SourceSet::drops_condition(const SampleRef& ref) const {
  const double share = drop_condition_[ref.source];
  if (share <= 0 || !drop_seed_) return false;
  const uint64_t id = sample_id(names_[ref.source], {.source = ref.source, .record = ref.record});
  return KeyedRng(*drop_seed_, "drop_condition", id, ref.epoch).uniform_at(0) < share;
}

RecordOutcome SourceSet::make(const SampleRef& ref) const {
  const Source& source = *sources_[ref.source];
  RecordOutcome outcome;
  std::string where;  // what read() throws names its place already
  try {
    Record record = source.read(ref.record);
    where = source.where(ref.record) + ": ";
    if (drops_condition(ref)) record.messages = without_condition(std::move(record.messages));
    outcome.made = maker_.make(record, names_[ref.source], ref);
  } catch (const BadRecord& bad) {
    outcome.bad = where + bad.what();
  }
  return outcome;
}

std::vector<Sample> SourceSet::take(RecordOutcome outcome, SourceCounts& counts) const {
  if (outcome.bad) {
    if (fail_on_bad_) {
      throw BadRecord(thread_context().label + *outcome.bad +
                      " (data.on_bad_record: skip would count it and go on)");
    }
    ++counts.bad;
    // Every rank reads the whole stream; one of them tells.
    if ((counts.bad == 1 || counts.bad % kLogEvery == 0) && thread_context().primary) {
      log::warn("skipped {} (bad records of source '{}' so far: {})", *outcome.bad, counts.name,
                counts.bad);
    }
    return {};
  }
  MadeSamples& made = outcome.made;
  if (made.too_long) {
    ++counts.too_long;
    return {};
  }
  ++counts.records;
  counts.samples += static_cast<int64_t>(made.samples.size());
  for (const Sample& sample : made.samples) counts.tokens += sample.size();
  counts.truncated += made.truncated;
  counts.split += made.split;
  return std::move(made.samples);
}

Sample SourceSet::reload(const SampleRef& ref) const {
  VEOMNI_CHECK(
      ref.source >= 0 && ref.source < size() && ref.record >= 0 && ref.record < records(ref.source),
      "data state names record ", ref.record, " of source ", ref.source, ", which does not exist");
  RecordOutcome outcome = make(ref);
  for (Sample& sample : outcome.made.samples) {
    if (sample.ref == ref) return std::move(sample);
  }
  throw_error((outcome.bad ? *outcome.bad : sources_[ref.source]->where(ref.record)) +
              ": the record or its media have changed since the data state was saved");
}

}  // namespace veomni::data
