// SPDX-License-Identifier: Apache-2.0
/// Unicode regular expressions on PCRE2.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace veomni::data {

/// A compiled pattern, JIT where PCRE2 has one. Immutable; any number of threads may match at once.
class Regex {
 public:
  /// @param pattern  in the common subset of Oniguruma's and PCRE2's syntax. `\s` and `\S` mean the
  ///                 Unicode property White_Space, as in Oniguruma (PCRE2's own `\s` also takes U+180E).
  /// @throws Error with the place in the pattern if it does not compile.
  explicit Regex(const std::string& pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Calls on_match(begin, end) for every match, left to right; empty matches are passed over.
  /// @param text  valid UTF-8
  /// @throws Error if PCRE2 gives up (its match limit).
  void for_each_match(std::string_view text,
                      const std::function<void(size_t, size_t)>& on_match) const;

  /// Whether some match is not empty.
  bool matches(std::string_view text) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace veomni::data
