// SPDX-License-Identifier: Apache-2.0
/// Any text as a tokenizer.json: an Error, or a spec that survives being written and read again.
#include <cstdlib>
#include <string_view>

#include "veomni/base/error.h"
#include "veomni/io/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  veomni::io::TokenizerSpec spec;
  try {
    spec = veomni::io::parse_tokenizer_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const veomni::Error&) {
    return 0;
  }
  // What was accepted keeps its promises: nothing here may throw.
  if (veomni::io::parse_tokenizer_json(veomni::io::write_tokenizer_json(spec), "fuzz") != spec)
    std::abort();
  return 0;
}
