// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "audio_header.h"
#include "av.h"
#include "bad_media.h"
#include "resample.h"
#include "veomni/media/audio.h"

namespace veomni::media {

namespace {

// FFmpeg's name of a format, or null for what is no sound.
const char* demuxer_of(FileKind kind) {
  switch (kind) {
    case FileKind::kWav: return "wav";
    case FileKind::kFlac: return "flac";
    case FileKind::kMp3: return "mp3";
    case FileKind::kOgg: return "ogg";
    default: return nullptr;
  }
}

// WAV and OGG hold anything; a file from anywhere reaches no other decoders than these.
bool is_allowed(AVCodecID id) {
  constexpr AVCodecID kAllowed[] = {
      AV_CODEC_ID_PCM_U8,    AV_CODEC_ID_PCM_S16LE, AV_CODEC_ID_PCM_S24LE, AV_CODEC_ID_PCM_S32LE,
      AV_CODEC_ID_PCM_F32LE, AV_CODEC_ID_PCM_F64LE, AV_CODEC_ID_PCM_ALAW,  AV_CODEC_ID_PCM_MULAW,
      AV_CODEC_ID_FLAC,      AV_CODEC_ID_MP3,       AV_CODEC_ID_VORBIS,    AV_CODEC_ID_OPUS};
  return std::find(std::begin(kAllowed), std::end(kAllowed), id) != std::end(kAllowed);
}

// A frame's channels averaged.
template <typename Sample>
void average(const AVFrame& frame, double scale, double zero, std::vector<float>& mono) {
  const int channels = av::num_channels(frame);
  const bool planar = av_sample_fmt_is_planar(static_cast<AVSampleFormat>(frame.format)) != 0;
  for (int64_t i = 0; i < frame.nb_samples; ++i) {
    double sum = 0;
    for (int c = 0; c < channels; ++c) {
      const auto* data = reinterpret_cast<const Sample*>(frame.extended_data[planar ? c : 0]);
      sum += (static_cast<double>(data[planar ? i : i * channels + c]) - zero) * scale;
    }
    mono[i] = static_cast<float>(sum / channels);
  }
}

// Takes decoded frames, gives one channel at the asked rate.
class Mono {
 public:
  /// @param most_samples  of the file's; 0: all
  Mono(int64_t sample_rate, int64_t most_samples, const AudioLimits& limits,
       const std::string& where)
      : sample_rate_(sample_rate), most_samples_(most_samples), limits_(limits), where_(where) {}

  void add(const AVFrame& frame) {
    if (frame.nb_samples <= 0) return;
    check(frame);
    mono_.resize(frame.nb_samples);
    switch (av_get_packed_sample_fmt(static_cast<AVSampleFormat>(frame.format))) {
      case AV_SAMPLE_FMT_U8: average<uint8_t>(frame, 1.0 / 128, 128, mono_); break;
      case AV_SAMPLE_FMT_S16: average<int16_t>(frame, 1.0 / (1 << 15), 0, mono_); break;
      case AV_SAMPLE_FMT_S32: average<int32_t>(frame, 1.0 / (1LL << 31), 0, mono_); break;
      case AV_SAMPLE_FMT_FLT: average<float>(frame, 1, 0, mono_); break;
      case AV_SAMPLE_FMT_DBL: average<double>(frame, 1, 0, mono_); break;
      default: bad_media(where_, "samples of a kind this program does not read");
    }
    const auto broken =
        std::find_if_not(mono_.begin(), mono_.end(), [](float x) { return std::isfinite(x); });
    if (broken != mono_.end())
      bad_media(where_, "sample ", num_samples_ + (broken - mono_.begin()), " is ", *broken);
    if (most_samples_ != 0 && num_samples_ + frame.nb_samples > most_samples_)
      mono_.resize(most_samples_ - num_samples_);
    num_samples_ += static_cast<int64_t>(mono_.size());
    resampler_->push(mono_);
  }

  /// Read so far, at the file's own rate.
  int64_t num_samples() const { return num_samples_; }
  std::vector<float> finish() { return resampler_ ? resampler_->finish() : std::vector<float>(); }

 private:
  void check(const AVFrame& frame) {
    if (!resampler_) {
      file_rate_ = frame.sample_rate;
      if (file_rate_ < 1 || file_rate_ > Resampler::kMaxRate)
        bad_media(where_, file_rate_, " samples a second are not in [1, ", Resampler::kMaxRate,
                  "]");
      resampler_.emplace(file_rate_, sample_rate_);
    }
    if (frame.sample_rate != file_rate_)
      bad_media(where_, "its sample rate goes from ", file_rate_, " to ", frame.sample_rate);
    const auto samples = static_cast<double>(num_samples_ + frame.nb_samples);
    if (samples > limits_.max_seconds * static_cast<double>(file_rate_))
      bad_media(where_, "longer than the limit of ", limits_.max_seconds, " seconds");
    if (av::num_channels(frame) < 1) bad_media(where_, "a sound without channels");
  }

  int64_t sample_rate_, most_samples_, file_rate_ = 0, num_samples_ = 0;
  const AudioLimits& limits_;
  const std::string& where_;
  std::vector<float> mono_;
  // Fed as frames come, so that a small file of many samples is never in memory at its own rate.
  std::optional<Resampler> resampler_;
};

class Decoding {
 public:
  Decoding(const KindOfFile& kind, std::span<const std::byte> file, const std::string& where)
      : kind_(kind), where_(where), input_(file) {
    check(input_.open(demuxer_of(kind.kind)));
    for (unsigned i = 0; i < input_.format()->nb_streams && stream_ < 0; ++i) {
      if (input_.format()->streams[i]->codecpar->codec_type == AVMEDIA_TYPE_AUDIO)
        stream_ = static_cast<int>(i);
    }
    if (stream_ < 0) bad_media(where, kind.name, " without sound");
    const AVStream* stream = input_.format()->streams[stream_];
    const AVCodecID codec = stream->codecpar->codec_id;
    if (!is_allowed(codec))
      bad_media(where, kind.name, " whose sound is coded as ", avcodec_get_name(codec),
                ", which this program does not read");
    decoder_ = av::make_decoder(codec, kind.name.c_str());
    check(avcodec_parameters_to_context(decoder_.get(), stream->codecpar));
    // For what is cut off at both ends of an MP3, Vorbis or Opus stream.
    decoder_->pkt_timebase = stream->time_base;
    check(avcodec_open2(decoder_.get(), nullptr, nullptr));
  }

  void run(Mono& mono) {
    const auto packet = av::make_packet();
    while (true) {
      const int error = av_read_frame(input_.format(), packet.get());
      if (error == AVERROR_EOF) break;
      check(error);
      if (packet->stream_index == stream_) {
        // A WAV's last packet is called so because it is short; its length has been checked.
        if ((packet->flags & AV_PKT_FLAG_CORRUPT) && kind_.kind != FileKind::kWav)
          damaged("a damaged packet");
        decode(packet.get(), mono);
      }
      av_packet_unref(packet.get());
    }
    decode(nullptr, mono);
  }

 private:
  void decode(const AVPacket* packet, Mono& mono) {
    check(avcodec_send_packet(decoder_.get(), packet));
    while (true) {
      const int error = avcodec_receive_frame(decoder_.get(), frame_.get());
      if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) return;
      check(error);
      if (frame_->decode_error_flags != 0 || (frame_->flags & AV_FRAME_FLAG_CORRUPT))
        damaged("a damaged frame");
      mono.add(*frame_);
    }
  }

  void check(int error) const {
    if (error < 0) damaged(av::describe(error));
  }
  [[noreturn]] void damaged(const std::string& reason) const {
    bad_media(where_, kind_.name, " that does not decode: ", reason);
  }

  const KindOfFile& kind_;
  const std::string& where_;
  av::MemoryInput input_;
  int stream_ = -1;
  av::Context decoder_;
  av::Frame frame_ = av::make_frame();
};

}  // namespace

Audio decode_audio(std::span<const std::byte> file, const std::string& where, int64_t sample_rate,
                   const AudioLimits& limits) {
  VEOMNI_CHECK(sample_rate >= 1 && sample_rate <= Resampler::kMaxRate, "decode_audio: sample_rate ",
               sample_rate, " is not in [1, ", Resampler::kMaxRate, "]");
  const auto kind = kind_of(file);
  if (!demuxer_of(kind.kind)) bad_media(where, "not a WAV, FLAC, MP3 or OGG: it is ", kind.name);
  const auto header = read_audio_header(kind.kind, file, where);
  av::clear_messages();
  Mono mono(sample_rate, header.most_samples, limits, where);
  Decoding(kind, file.first(header.end), where).run(mono);
  if (header.num_samples != 0 && header.num_samples != mono.num_samples())
    bad_media(where, kind.name, " cut short or damaged: its header says ", header.num_samples,
              " samples, ", mono.num_samples(), " are there");
  if (mono.num_samples() == 0) bad_media(where, kind.name, " of 0 samples");
  return {sample_rate, mono.finish()};
}

}  // namespace veomni::media
