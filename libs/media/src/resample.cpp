// SPDX-License-Identifier: Apache-2.0
#include "resample.h"

extern "C" {
#include <libavutil/avutil.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
}

#include <algorithm>
#include <utility>

#include "av.h"
#include "veomni/base/error.h"

namespace veomni::media {

namespace {

SwrContext* mono_context(int from, int to) {
  SwrContext* context = nullptr;
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 28, 100)
  AVChannelLayout mono;
  av_channel_layout_default(&mono, 1);
  swr_alloc_set_opts2(&context, &mono, AV_SAMPLE_FMT_FLT, to, &mono, AV_SAMPLE_FMT_FLT, from, 0,
                      nullptr);
#else
  context = swr_alloc_set_opts(nullptr, AV_CH_LAYOUT_MONO, AV_SAMPLE_FMT_FLT, to, AV_CH_LAYOUT_MONO,
                               AV_SAMPLE_FMT_FLT, from, 0, nullptr);
#endif
  return context;
}

// FFmpeg's own filter is short: tones below 0.85 of the lower rate's limit come out 59 dB away from what librosa's
// (soxr, "HQ") gives, and those above the limit fold back at −44 dB. This one is within 77 dB and −130 dB, and its edge
// lies where soxr's does.
constexpr std::pair<const char*, const char*> kFilter[] = {{"filter_size", "128"},
                                                           {"filter_type", "kaiser"},
                                                           {"kaiser_beta", "12"},
                                                           {"cutoff", "0.956"},
                                                           {"exact_rational", "1"}};

}  // namespace

Resampler::Resampler(int64_t from, int64_t to) : from_(from), to_(to) {
  VEOMNI_CHECK(from >= 1 && to >= 1 && from <= kMaxRate && to <= kMaxRate, "sample rates ", from,
               " and ", to, " are not both in [1, ", kMaxRate, "]");
  if (from == to) return;
  av::clear_messages();
  swr_ = mono_context(static_cast<int>(from), static_cast<int>(to));
  int error = swr_ ? 0 : AVERROR(ENOMEM);
  for (const auto& [name, value] : kFilter)
    if (error >= 0) error = av_opt_set(swr_, name, value, 0);
  if (error >= 0) error = swr_init(swr_);
  if (error < 0) swr_free(&swr_);
  VEOMNI_CHECK(error >= 0, "no way from ", from, " to ", to,
               " samples a second: ", av::describe(error));
}

Resampler::~Resampler() { swr_free(&swr_); }

void Resampler::push(std::span<const float> samples) {
  pushed_ += static_cast<int64_t>(samples.size());
  if (!swr_) {
    out_.insert(out_.end(), samples.begin(), samples.end());
    return;
  }
  // FFmpeg counts samples in ints.
  constexpr size_t kPiece = 1 << 16;
  for (size_t at = 0; at < samples.size(); at += kPiece)
    convert(samples.data() + at, static_cast<int64_t>(std::min(kPiece, samples.size() - at)));
}

// @param samples  null: the end, what is still inside comes out
void Resampler::convert(const float* samples, int64_t count) {
  const int room = swr_get_out_samples(swr_, static_cast<int>(count));
  VEOMNI_CHECK(room >= 0, "resampling failed: ", av::describe(room));
  const size_t before = out_.size();
  out_.resize(before + room);
  auto* to = reinterpret_cast<uint8_t*>(out_.data() + before);
  const auto* from = reinterpret_cast<const uint8_t*>(samples);
  const int made = swr_convert(swr_, &to, room, samples ? &from : nullptr, static_cast<int>(count));
  VEOMNI_CHECK(made >= 0, "resampling failed: ", av::describe(made));
  out_.resize(before + made);
}

std::vector<float> Resampler::finish() {
  if (swr_ && pushed_ > 0) {
    convert(nullptr, 0);
    out_.resize((pushed_ * to_ + from_ - 1) / from_);
  }
  return std::move(out_);
}

}  // namespace veomni::media
