// SPDX-License-Identifier: Apache-2.0
#include "normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "veomni/base/error.h"

namespace veomni::data {

namespace {
// U+0300 is the first character that NFC can change or that composes with one before it; its lead byte is 0xCC.
bool is_below_combining(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}
}  // namespace

std::string to_nfc(std::string_view text) {
  if (is_below_combining(text)) return std::string(text);
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  VEOMNI_CHECK(length >= 0, "NFC normalisation of a text of ", text.size(),
               " bytes: ", utf8proc_errmsg(length));
  return std::string(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
}

std::string normalize(std::string_view text, const std::vector<io::NormalizerKind>& steps) {
  std::string out(text);
  for (const io::NormalizerKind step : steps) {
    switch (step) {
      case io::NormalizerKind::kNfc: out = to_nfc(out); break;
    }
  }
  return out;
}

}  // namespace veomni::data
