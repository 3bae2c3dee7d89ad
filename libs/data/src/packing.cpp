// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/packing.h"

#include "veomni/base/error.h"

namespace veomni::data {

Packer::Packer(int64_t budget_tokens, int64_t open_bins)
    : budget_tokens_(budget_tokens), open_bins_(open_bins) {
  VEOMNI_CHECK_CONFIG(budget_tokens >= 1, "train.micro_batch_tokens=", budget_tokens,
                      " must be at least 1");
  VEOMNI_CHECK_CONFIG(open_bins >= 1, "data.open_bins=", open_bins, " must be at least 1");
}

void Packer::put(Sample sample) {
  const int64_t tokens = sample.size();
  VEOMNI_CHECK(tokens >= 1 && tokens <= budget_tokens_, "a sample of ", tokens,
               " tokens does not fit a micro-batch of ", budget_tokens_);
  size_t bin = 0;
  while (bin < open_.size() && open_tokens_[bin] + tokens > budget_tokens_) ++bin;
  if (bin == open_.size()) {
    if (static_cast<int64_t>(open_.size()) == open_bins_) {
      ready_.push_back(std::move(open_.front()));
      open_.pop_front();
      open_tokens_.pop_front();
      --bin;
    }
    open_.emplace_back();
    open_tokens_.push_back(0);
  }
  open_[bin].samples.push_back(std::move(sample));
  open_tokens_[bin] += tokens;
  if (open_tokens_[bin] == budget_tokens_) {
    ready_.push_back(std::move(open_[bin]));
    open_.erase(open_.begin() + bin);
    open_tokens_.erase(open_tokens_.begin() + bin);
  }
}

std::optional<MicroBatch> Packer::take() {
  if (ready_.empty()) return std::nullopt;
  MicroBatch bin = std::move(ready_.front());
  ready_.pop_front();
  return bin;
}

void Packer::flush() {
  for (MicroBatch& bin : open_) ready_.push_back(std::move(bin));
  open_.clear();
  open_tokens_.clear();
}

void Packer::set(std::deque<MicroBatch> open, std::deque<MicroBatch> ready) {
  open_ = std::move(open);
  ready_ = std::move(ready);
  open_tokens_.clear();
  for (const MicroBatch& bin : open_) open_tokens_.push_back(bin.num_tokens());
}

}  // namespace veomni::data
