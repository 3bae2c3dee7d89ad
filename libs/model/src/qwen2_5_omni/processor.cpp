// SPDX-License-Identifier: Apache-2.0
#include "processor.h"

#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"
#include "veomni/media/audio.h"
#include "veomni/media/log_mel.h"

namespace veomni::model {

namespace {

const char* const kWhere = "preprocessor_config.json";

class Qwen25OmniAudioProcessor final : public media::Processor {
 public:
  explicit Qwen25OmniAudioProcessor(const media::LogMelOptions& options)
      : options_(options), log_mel_(options) {}

  media::Features process(std::span<const std::byte> file,
                          const std::string& where) const override {
    const auto audio = media::decode_audio(file, where, options_.sample_rate);
    media::Features out;
    out.rows = log_mel_.num_frames(static_cast<int64_t>(audio.samples.size()));
    out.tokens = qwen2_5_omni_audio_tokens(out.rows);
    if (out.tokens < 1) {
      throw media::BadMedia(detail::concat(where, ": ", audio.samples.size(), " samples at ",
                                           options_.sample_rate, " Hz are too short for a token"));
    }
    out.width = options_.num_mels;
    out.grid = {out.rows, 1, 1};
    out.token_grid = {out.tokens, 1, 1};
    out.values = log_mel_(audio);
    return out;
  }

 private:
  media::LogMelOptions options_;
  media::LogMel log_mel_;
};

}  // namespace

int64_t qwen2_5_omni_audio_tokens(int64_t frames) {
  const int64_t after_convolution = (frames - 1) / 2 + 1;
  return after_convolution < 2 ? 0 : (after_convolution - 2) / 2 + 1;
}

std::unique_ptr<media::Processor> make_qwen2_5_omni_audio_processor(const nlohmann::json& config,
                                                                    int64_t num_mel_bins) {
  media::LogMelOptions o;
  o.num_mels = num_mel_bins;
  o.sample_rate = io::get_or(config, "sampling_rate", o.sample_rate, kWhere);
  o.n_fft = io::get_or(config, "n_fft", o.n_fft, kWhere);
  o.hop_length = io::get_or(config, "hop_length", o.hop_length, kWhere);
  VEOMNI_CHECK_CONFIG(o.sample_rate > 0, kWhere, ": sampling_rate must be more than 0, got ",
                      o.sample_rate);
  const int64_t chunk_length = io::get_or(config, "chunk_length", 300, kWhere);
  VEOMNI_CHECK_CONFIG(chunk_length > 0, kWhere, ": chunk_length must be more than 0, got ",
                      chunk_length);
  o.max_samples = chunk_length * o.sample_rate;
  const int64_t mels = io::get_or(config, "feature_size", num_mel_bins, kWhere);
  VEOMNI_CHECK_CONFIG(mels == num_mel_bins, kWhere, ": feature_size=", mels,
                      ", but the model has num_mel_bins=", num_mel_bins);
  for (const char* key : {"dither", "padding_value"}) {
    const double value = io::get_or(config, key, 0.0, kWhere);
    VEOMNI_CHECK_CONFIG(value == 0, kWhere, ": ", key, "=", value,
                        " is not supported by qwen2_5_omni_audio (supported: 0)");
  }
  return std::make_unique<Qwen25OmniAudioProcessor>(o);
}

}  // namespace veomni::model
