// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "veomni/base/error.h"

namespace veomni::model {

/// What the ConfigError of `make` says, or "accepted" where it throws none.
inline std::string refusal(const std::function<void()>& make) {
  try {
    make();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace veomni::model
