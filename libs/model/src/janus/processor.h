// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "veomni/media/processor.h"

namespace veomni::model {

/// Pictures to squares of pixels, equal to transformers' JanusImageProcessor, and back to PNG (there with values rounded,
/// where transformers cuts their fractions off).
/// @param preprocessor  preprocessor_config.json: size (a number or {height, width}, equal), min_size, do_resize, do_pad,
///                      do_rescale, rescale_factor, do_normalize, image_mean, image_std, background_color; absent keys have
///                      its defaults, but size that of the model
/// @param size    pixels a side where the preprocessor names none
/// @param factor  pixels a side that become one code
std::unique_ptr<media::Processor> make_janus_processor(const nlohmann::json& preprocessor,
                                                       int64_t size, int64_t factor);

}  // namespace veomni::model
