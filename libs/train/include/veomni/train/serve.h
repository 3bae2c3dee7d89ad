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
  std::vector<std::string> images, audios;  ///< files every prompt begins with
  std::string output_modality = "text";
  std::string chat_template = "qwen";
  std::string dtype = "auto";
  std::string out;
  generate::GenerateOptions generate;
};

/// Prints one answer a prompt (with several, each under its prompt), or writes {"prompt", "answer", "ids"} a line to
/// options.out. An output modality other than text makes every answer begin with an item of it; items go to
/// options.out (numbered where there are several), text is printed.
/// @throws ConfigError for a directory without model or tokenizer, a modality the model cannot read or draw
void run_generate(const ServeOptions& options);

}  // namespace veomni::train
