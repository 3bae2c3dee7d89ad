// SPDX-License-Identifier: Apache-2.0
#include "unicode_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "utf8.h"
#include "veomni/base/error.h"

namespace veomni::data {

namespace {
struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

std::string with_unicode_space(const std::string& pattern) {
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out += pattern[i];
      continue;
    }
    const char next = pattern[++i];
    if (next == 's') {
      out += "\\p{White_Space}";
    } else if (next == 'S') {
      out += "\\P{White_Space}";
    } else {
      (out += '\\') += next;
    }
  }
  return out;
}
}  // namespace

struct Regex::Compiled {
  std::string pattern;
  std::unique_ptr<pcre2_code, FreeCode> code;
};

Regex::Regex(const std::string& pattern) : compiled_(std::make_unique<Compiled>()) {
  VEOMNI_CHECK(first_invalid_utf8(pattern) == std::string::npos, "regex '", pattern,
               "' is not valid UTF-8");
  compiled_->pattern = pattern;
  const std::string translated = with_unicode_space(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                      translated.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset,
                                      nullptr));
  VEOMNI_CHECK(compiled_->code, "regex '", pattern, "' does not compile: ", message_of(error),
               " before '", translated.substr(std::min(offset, translated.size()), 20), "'");
  // Without JIT support the interpreter runs: slower, the same matches.
  pcre2_jit_compile(compiled_->code.get(), PCRE2_JIT_COMPLETE);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::for_each_match(std::string_view text,
                           const std::function<void(size_t, size_t)>& on_match) const {
  const std::unique_ptr<pcre2_match_data, FreeData> data(pcre2_match_data_create(1, nullptr));
  // The default 32 KiB JIT stack is on the machine stack; long backtracking needs more.
  const std::unique_ptr<pcre2_match_context, FreeContext> context(
      pcre2_match_context_create(nullptr));
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack;
  const PCRE2_SPTR subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t at = 0; at < text.size();) {
    int rc = pcre2_match(compiled_->code.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                         data.get(), context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
      stack.reset(pcre2_jit_stack_create(64 << 10, 64 << 20, nullptr));
      pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      continue;
    }
    if (rc == PCRE2_ERROR_NOMATCH) return;
    VEOMNI_CHECK(rc >= 0, "regex '", compiled_->pattern, "' gave up on a text of ", text.size(),
                 " bytes: ", message_of(rc));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data.get());
    const size_t begin = span[0], end = span[1];
    if (end > begin) {
      on_match(begin, end);
      at = end;
    } else {
      at = end;
      if (at < text.size()) next_code_point(text, at);
    }
  }
}

bool Regex::matches(std::string_view text) const {
  bool found = false;
  for_each_match(text, [&](size_t, size_t) { found = true; });
  return found;
}

}  // namespace veomni::data
