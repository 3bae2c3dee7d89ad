// SPDX-License-Identifier: Apache-2.0
#include "overrides.h"

#include "veomni/base/error.h"
#include "veomni/base/names.h"

namespace veomni::cli {

namespace {

// `output` is the one key of a recipe outside every section.
bool is_override(const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  return name == "--output" || (name.starts_with("--") && name.find('.') != std::string::npos);
}

[[noreturn]] void refuse(const CLI::App& command, const std::string& word) {
  std::vector<std::string> known;
  for (const auto* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::string nearest = nearest_name(word.substr(0, word.find('=')), known);
  throw_config_error("veomni " + command.get_name() + ": unexpected '" + word + "'" +
                     (nearest.empty() ? "" : "; did you mean " + nearest + "?") + " See `veomni " +
                     command.get_name() + " --help`");
}

}  // namespace

void allow_overrides(CLI::App& command) { command.allow_extras(); }

std::vector<train::Override> overrides_of(const CLI::App& command) {
  std::vector<train::Override> overrides;
  const auto words = command.remaining();
  for (size_t i = 0; i < words.size(); ++i) {
    if (!is_override(words[i])) refuse(command, words[i]);
    const size_t equals = words[i].find('=');
    if (equals != std::string::npos) {
      overrides.push_back({words[i].substr(2, equals - 2), words[i].substr(equals + 1)});
      continue;
    }
    VEOMNI_CHECK_CONFIG(i + 1 < words.size() && !words[i + 1].starts_with("--"), "veomni ",
                        command.get_name(), ": ", words[i], " needs a value: ", words[i], "=VALUE");
    overrides.push_back({words[i].substr(2), words[i + 1]});
    ++i;
  }
  return overrides;
}

}  // namespace veomni::cli
