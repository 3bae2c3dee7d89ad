// SPDX-License-Identifier: Apache-2.0
/// Clips for Qwen2.5-Omni's audio encoder: what transformers' Qwen2_5OmniProcessor gives its WhisperFeatureExtractor.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "veomni/media/log_mel.h"
#include "veomni/media/processor.h"

namespace veomni::model {

/// A clip's bytes -> Features:
///   values      log-mel frames [L, mel], L = ⌈samples / hop⌉: the frames that the attention mask keeps
///   grid        {L, 1, 1}
///   tokens      ((L − 1) / 2 + 1 − 2) / 2 + 1, halves rounded down; token_grid {tokens, 1, 1}
/// A clip longer than chunk_length seconds is cut there, as the reference cuts it.
class Qwen2_5OmniAudioProcessor final : public media::Processor {
 public:
  explicit Qwen2_5OmniAudioProcessor(const media::LogMelOptions& options);
  /// @throws BadMedia, also for a clip of fewer than 3 frames: it has no token
  media::Features process(std::span<const std::byte> file, const std::string& where) const override;

 private:
  media::LogMel log_mel_;
};

/// Reads preprocessor_config.json's feature_size, sampling_rate, hop_length, n_fft, chunk_length; absent ones are 128
/// mel, 16 kHz, 160, 400 and 300 s.
/// @throws ConfigError for values out of range, feature_size != num_mel_bins, and a `dither` or `padding_value` other than 0
std::unique_ptr<media::Processor> make_qwen2_5_omni_audio_processor(
    const nlohmann::json& preprocessor, int64_t num_mel_bins);

}  // namespace veomni::model
