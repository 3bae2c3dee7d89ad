// SPDX-License-Identifier: Apache-2.0
/// Making arbitrary bytes safe inside a page.
#pragma once

#include <string>
#include <string_view>

namespace veomni::html {

/// For text and quoted attributes. Bytes that are not UTF-8 and control characters become U+FFFD.
std::string escape(std::string_view text);

/// JSON text for inside <script>: without '<', so that no "</script>" or "<!--" can end or confuse it.
std::string escape_json(std::string json);

/// A script's source for inside <script>.
std::string escape_script(std::string source);

/// "data:<mime>;base64,…" (RFC 4648, with padding)
std::string data_uri(std::string_view mime, std::string_view bytes);

}  // namespace veomni::html
