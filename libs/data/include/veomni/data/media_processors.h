// SPDX-License-Identifier: Apache-2.0
/// What the loader needs to know of a model's encoders and decoders.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "veomni/media/processor.h"

namespace veomni::data {

/// By modality. Shared by the loader's threads.
struct MediaProcessors {
  std::map<std::string, std::shared_ptr<const media::Processor>> inputs;   ///< of encoders
  std::map<std::string, std::shared_ptr<const media::Processor>> targets;  ///< of decoders
  /// A decoder's tokenizer is trained alone: a sample is one target item, and there is no text.
  bool only_targets = false;
};

}  // namespace veomni::data
