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
                           const Tokenizer& tokenizer)
    : options_(options),
      seed_(seed),
      micro_batch_tokens_(micro_batch_tokens),
      sources_(options, micro_batch_tokens, tokenizer),
      cumulative_weights_(cumulative(options.sources)),
      packer_(micro_batch_tokens, options.open_bins),
      cursors_(sources_.size()),
      counts_(sources_.no_counts()),
      orders_(sources_.size()) {
  for (int source = 0; source < sources_.size(); ++source) {
    VEOMNI_CHECK_CONFIG(sources_.records(source) <= UINT32_MAX, "data source '",
                        sources_.names()[source], "' has ", sources_.records(source),
                        " records; at most ", UINT32_MAX, " can be shuffled, so split it");
  }
}

MicroBatch SampleStream::next() {
  while (true) {
    if (auto bin = packer_.take()) return std::move(*bin);
    draw();
  }
}

void SampleStream::draw() {
  const int source = pick_source();
  ++draws_;
  std::vector<Sample> samples = sources_.load(source, record_at_cursor(source), counts_[source]);
  advance(source, !samples.empty());
  for (Sample& sample : samples) packer_.put(std::move(sample));
}

int SampleStream::pick_source() const {
  const double point = KeyedRng(seed_, "mix").uniform_at(draws_) * cumulative_weights_.back();
  const auto above =
      std::upper_bound(cumulative_weights_.begin(), cumulative_weights_.end(), point);
  return static_cast<int>(
      std::min<ptrdiff_t>(above - cumulative_weights_.begin(), sources_.size() - 1));
}

int64_t SampleStream::record_at_cursor(int source) {
  const int64_t position = cursors_[source].position;
  if (!options_.shuffle) return position;
  std::vector<uint32_t>& order = orders_[source];
  if (order.empty()) {
    order.resize(sources_.records(source));
    std::iota(order.begin(), order.end(), 0u);
    KeyedRng rng(seed_, "shuffle", hash_name(sources_.names()[source]), counts_[source].epoch);
    for (size_t left = order.size(); left > 1; --left)
      std::swap(order[left - 1], order[rng.below(left)]);
  }
  return order[position];
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
  orders_[source].clear();
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
  for (auto& order : orders_) order.clear();
}

}  // namespace veomni::data
