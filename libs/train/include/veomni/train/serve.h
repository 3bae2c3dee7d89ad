// SPDX-License-Identifier: Apache-2.0
/// `veomni generate`: prompts from the command line, answered by a model directory.
#pragma once

#include <string>
#include <vector>

#include "veomni/generate/generate.h"

namespace veomni::train {

struct ServeOptions {
  std::string model_dir;
  std::vector<std::string> prompts;
  std::string chat_template = "qwen";
  std::string dtype = "auto";
  std::string out;
  generate::GenerateOptions generate;
};

/// Prints one answer a prompt (with several, each under its prompt), or writes {"prompt", "answer", "ids"} a line to
/// options.out. @throws ConfigError for a directory without model or tokenizer
void run_generate(const ServeOptions& options);

}  // namespace veomni::train
