// SPDX-License-Identifier: Apache-2.0
/// Names a user types: the nearest right one, and lists for error messages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace veomni {

/// The entry of `known` nearest to `name`, at most a third of its length (at least 1) edits away, or "". A swap of two
/// neighbours is one edit.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

/// "a, b, c"
std::string join(const std::vector<std::string>& items, std::string_view separator = ", ");

/// "unknown <what> 'nam'; did you mean 'name'? (known: a, b)"
std::string unknown_name_message(std::string_view what, std::string_view name,
                                 const std::vector<std::string>& known);

/// Whether `path` ("foundation.layers.3.attention") matches `pattern`, where * stands for any run of characters.
bool matches_pattern(std::string_view path, std::string_view pattern);

}  // namespace veomni
