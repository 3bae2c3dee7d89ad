// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/eval_stream.h"

#include <algorithm>

#include "read_ahead.h"
#include "source_set.h"
#include "veomni/data/packing.h"

namespace veomni::data {

struct EvalStream::Impl {
  Impl(const DataOptions& options, const LoaderPlan& plan_in, const Tokenizer& tokenizer,
       int64_t max_records_in, const MediaProcessors& processors)
      : plan(plan_in),
        max_records(max_records_in),
        sources(options, plan.micro_batch_tokens, tokenizer, processors, std::nullopt),
        packer(plan.micro_batch_tokens, 1),
        counts(sources.no_counts()),
        ahead(sources, decode_threads(options, processors), [this] { return draw(); }) {}

  int64_t records_to_read(int of) const {
    return max_records > 0 ? std::min(max_records, sources.records(of)) : sources.records(of);
  }

  std::optional<SampleRef> draw() {
    while (source < sources.size() && record == records_to_read(source)) {
      ++source;
      record = 0;
    }
    if (source == sources.size()) return std::nullopt;
    return SampleRef{.source = source, .record = record++};
  }

  // The next micro-batch of all ranks together; none at the end.
  std::optional<MicroBatch> next_global() {
    while (true) {
      if (auto bin = packer.take()) return bin;
      if (ended) return std::nullopt;
      std::optional<Drawn> drawn = ahead.next();
      if (!drawn) {
        ended = true;
        packer.flush();
        for (SourceCounts& count : counts) count.epoch = 1;
        continue;
      }
      SourceCounts& count = counts[drawn->ref.source];
      for (Sample& sample : sources.take(std::move(drawn->outcome), count))
        packer.put(std::move(sample));
    }
  }

  LoaderPlan plan;
  int64_t max_records;
  SourceSet sources;
  Packer packer;
  std::vector<SourceCounts> counts;
  bool ended = false;
  // The next record to draw.
  int source = 0;
  int64_t record = 0;
  ReadAhead ahead;
};

EvalStream::EvalStream(const DataOptions& options, const LoaderPlan& plan,
                       const Tokenizer& tokenizer, int64_t max_records,
                       const MediaProcessors& processors)
    : impl_(std::make_unique<Impl>(options, plan, tokenizer, max_records, processors)) {
  VEOMNI_CHECK_CONFIG(plan.dp_size >= 1 && plan.dp_rank >= 0 && plan.dp_rank < plan.dp_size,
                      "data-parallel rank ", plan.dp_rank, " of ", plan.dp_size, " does not exist");
}

EvalStream::~EvalStream() = default;

std::optional<MicroBatch> EvalStream::next() {
  std::optional<MicroBatch> mine;
  for (int rank = 0; rank < impl_->plan.dp_size; ++rank) {
    std::optional<MicroBatch> one = impl_->next_global();
    if (rank == 0 && !one) return std::nullopt;
    if (rank == impl_->plan.dp_rank) mine = one ? std::move(*one) : MicroBatch{};
  }
  return mine;
}

void EvalStream::rewind() {
  impl_->packer.set({}, {});
  impl_->counts = impl_->sources.no_counts();
  impl_->ahead.clear();
  impl_->ended = false;
  impl_->source = 0;
  impl_->record = 0;
}

std::vector<SourceCounts> EvalStream::counts() const { return impl_->counts; }
const std::vector<std::string>& EvalStream::source_names() const { return impl_->sources.names(); }

}  // namespace veomni::data
