// SPDX-License-Identifier: Apache-2.0
#include "sample_stream.h"

#include <algorithm>
#include <numeric>

#include "veomni/base/rng.h"

namespace veomni::data {

namespace {
std::vector<std::vector<SampleRef>> refs_of(const std::deque<MicroBatch>& bins) {
  std::vector<std::vector<SampleRef>> all;
  for (const MicroBatch& bin : bins) {
    std::vector<SampleRef>& refs = all.emplace_back();
    for (const Sample& sample : bin.samples) refs.push_back(sample.ref);
  }
  return all;
}

std::vector<double> cumulative(const std::vector<SourceOptions>& sources) {
  double total = 0;
  std::vector<double> sums;
  for (const SourceOptions& source : sources) sums.push_back(total += source.weight);
  VEOMNI_CHECK_CONFIG(sources.empty() || total > 0, "data.sources: all weights are 0");
  return sums;
}
}  // namespace

SampleStream::SampleStream(const DataOptions& options, uint64_t seed, int64_t micro_batch_tokens,
                           const Tokenizer& tokenizer, const MediaProcessors& processors)
    : options_(options),
      processors_(processors),
      seed_(seed),
      micro_batch_tokens_(micro_batch_tokens),
      sources_(options, micro_batch_tokens, tokenizer, processors, seed),
      cumulative_weights_(cumulative(options.sources)),
      packer_(micro_batch_tokens, options.open_bins),
      cursors_(sources_.size()),
      counts_(sources_.no_counts()),
      places_(sources_.size()),
      ahead_(sources_, decode_threads(options, processors), [this] { return draw(); }) {
  for (int source = 0; source < sources_.size(); ++source) {
    VEOMNI_CHECK_CONFIG(sources_.records(source) <= UINT32_MAX, "data source '",
                        sources_.names()[source], "' has ", sources_.records(source),
                        " records; at most ", UINT32_MAX, " can be shuffled, so split it");
  }
}

MicroBatch SampleStream::next() {
  while (true) {
    if (auto bin = packer_.take()) return std::move(*bin);
    take_record();
  }
}

void SampleStream::take_record() {
  Drawn drawn = std::move(*ahead_.next());
  const int source = drawn.ref.source;
  std::vector<Sample> samples = sources_.take(std::move(drawn.outcome), counts_[source]);
  ++draws_;
  advance(source, !samples.empty());
  for (Sample& sample : samples) packer_.put(std::move(sample));
}

SampleRef SampleStream::draw() {
  const int source = pick_source();
  ++drawn_;
  Place& place = places_[source];
  const SampleRef ref{.source = source, .record = record_at(source, place), .epoch = place.epoch};
  if (++place.position == sources_.records(source))
    place = {.position = 0, .epoch = place.epoch + 1, .order = {}};
  return ref;
}

int SampleStream::pick_source() const {
  const double point = KeyedRng(seed_, "mix").uniform_at(drawn_) * cumulative_weights_.back();
  const auto above =
      std::upper_bound(cumulative_weights_.begin(), cumulative_weights_.end(), point);
  return static_cast<int>(
      std::min<ptrdiff_t>(above - cumulative_weights_.begin(), sources_.size() - 1));
}

int64_t SampleStream::record_at(int source, Place& place) const {
  if (!options_.shuffle) return place.position;
  std::vector<uint32_t>& order = place.order;
  if (order.empty()) {
    order.resize(sources_.records(source));
    std::iota(order.begin(), order.end(), 0u);
    KeyedRng rng(seed_, "shuffle", hash_name(sources_.names()[source]), place.epoch);
    for (size_t left = order.size(); left > 1; --left)
      std::swap(order[left - 1], order[rng.below(left)]);
  }
  return order[place.position];
}

void SampleStream::advance(int source, bool was_usable) {
  StreamState::Cursor& cursor = cursors_[source];
  cursor.usable_in_epoch += was_usable;
  if (++cursor.position < sources_.records(source)) return;
  const SourceCounts& counts = counts_[source];
  VEOMNI_CHECK(cursor.usable_in_epoch > 0, "data source '", counts.name, "': none of its ",
               sources_.records(source), " records can be used (bad: ", counts.bad,
               ", too long: ", counts.too_long, ")");
  cursor = {};
  ++counts_[source].epoch;
}

StreamState SampleStream::state() const {
  return {draws_, cursors_, counts_, refs_of(packer_.open()), refs_of(packer_.ready())};
}

std::deque<MicroBatch> SampleStream::reload(const std::vector<std::vector<SampleRef>>& bins) const {
  std::deque<MicroBatch> loaded;
  for (const auto& refs : bins) {
    MicroBatch& bin = loaded.emplace_back();
    for (const SampleRef& ref : refs) bin.samples.push_back(sources_.reload(ref));
  }
  return loaded;
}

void SampleStream::restore(const StreamState& state) {
  packer_.set(reload(state.open), reload(state.ready));
  draws_ = state.draws;
  cursors_ = state.cursors;
  counts_ = state.counts;
  ahead_.clear();
  drawn_ = draws_;
  for (int source = 0; source < sources_.size(); ++source)
    places_[source] = {cursors_[source].position, counts_[source].epoch, {}};
}

}  // namespace veomni::data
