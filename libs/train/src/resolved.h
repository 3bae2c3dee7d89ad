// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "veomni/base/fields.h"

namespace veomni::train {

/// Options as YAML, with every default filled in.
template <typename Options> std::string resolved(Options options) {
  FieldWriter writer;
  visit_fields(writer, options);
  YAML::Emitter out;
  out << writer.node;
  return std::string(out.c_str()) + "\n";
}

}  // namespace veomni::train
