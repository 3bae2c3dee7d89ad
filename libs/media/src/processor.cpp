// SPDX-License-Identifier: Apache-2.0
#include "veomni/media/processor.h"

namespace veomni::media {

std::vector<std::byte> Processor::postprocess(std::span<const float>, const Grid&) const {
  throw_error("this processor has no way back from features to a file");
}

}  // namespace veomni::media
