// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "veomni/media/processor.h"

namespace veomni::model {

/// Sound to frames of log-mel energies, equal to the audio half of Hugging Face's Qwen2_5OmniProcessor. Any sample rate is
/// resampled.
/// @param preprocessor  preprocessor_config.json: n_fft, hop_length, chunk_length (seconds: a longer clip is cut, as there),
///                      sampling_rate; absent keys have Qwen2.5-Omni's values
/// @throws ConfigError for values out of range, feature_size other than num_mel_bins, dither or padding_value other than 0
std::unique_ptr<media::Processor> make_qwen2_5_omni_audio_processor(
    const nlohmann::json& preprocessor, int64_t num_mel_bins);

/// Tokens of a clip of `frames` frames: one for about four.
int64_t qwen2_5_omni_audio_tokens(int64_t frames);

}  // namespace veomni::model
