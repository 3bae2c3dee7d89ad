// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "veomni/media/processor.h"

namespace veomni::model {

/// Pictures to patches, equal to Hugging Face's Qwen2VLImageProcessor.
/// @param preprocessor  preprocessor_config.json: min_pixels and max_pixels or size {shortest_edge, longest_edge},
///                      image_mean, image_std, do_resize; absent keys have its defaults
/// @throws ConfigError for values out of range, for sizes that are not the model's and for what would change the numbers
///         in a way that is not supported (resample, rescale_factor, do_rescale, do_normalize)
std::unique_ptr<media::Processor> make_qwen2_vl_processor(const nlohmann::json& preprocessor,
                                                          int64_t patch_size,
                                                          int64_t temporal_patch_size,
                                                          int64_t merge_size);

}  // namespace veomni::model
