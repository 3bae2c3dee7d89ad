// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/serve.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/data/chat_template.h"
#include "veomni/io/hf_directory.h"
#include "veomni/io/json_fields.h"
#include "veomni/io/output_file.h"
#include "veomni/nn/dtype.h"

namespace veomni::train {

namespace {

// The dtype a config.json says its weights are of.
std::string saved_dtype(const io::HfDirectory& directory) {
  const auto& config = directory.config();
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (io::has_value(config, key)) return io::require_string(config, key, directory.config_path());
  }
  return "float32";
}

std::string json_line(const std::string& prompt, const std::string& answer,
                      const std::vector<int32_t>& ids) {
  const nlohmann::ordered_json line = {{"prompt", prompt}, {"answer", answer}, {"ids", ids}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::unique_ptr<model::OmniModel> load_model(const ServeOptions& options) {
  const auto directory = io::HfDirectory::open(options.model_dir);
  const auto dtype =
      nn::parse_dtype(options.dtype == "auto" ? saved_dtype(directory) : options.dtype);
  const model::ModelOptions model_options{.foundation = {.path = options.model_dir}};
  auto model = model::build_model(model_options, {torch::kMeta, dtype});
  nn::materialize(*model, torch::kCPU, nn::Masters::kNone);
  model::fill_weights(*model, model_options, 0);
  return model;
}

}  // namespace

void run_generate(const ServeOptions& options) {
  const auto tokenizer = data::Tokenizer::from_file(options.model_dir);
  auto generate_options = options.generate;
  std::vector<std::vector<int32_t>> prompts;
  if (options.chat_template == "none") {
    for (const auto& prompt : options.prompts) prompts.push_back(tokenizer.encode(prompt, true));
    generate_options.stop_ids = tokenizer.special().stop;
  } else {
    const auto chat = data::make_chat_template(options.chat_template, tokenizer);
    for (const auto& prompt : options.prompts) {
      const data::Message message{"user", prompt};
      prompts.push_back(chat->render({&message, 1}, true).ids);
    }
    generate_options.stop_ids = chat->stop_ids();
  }
  auto model = load_model(options);
  check_vocabulary(tokenizer, model->foundation().vocab_size(), options.model_dir);
  const auto results = generate::generate(*model, prompts, generate_options);

  std::string lines;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto answer = tokenizer.decode(results[i]);
    if (!options.out.empty()) {
      lines += json_line(options.prompts[i], answer, results[i]);
    } else if (results.size() > 1) {
      fmt::print("> {}\n{}\n\n", options.prompts[i], answer);
    } else {
      fmt::print("{}\n", answer);
    }
  }
  if (!options.out.empty()) io::write_file(options.out, lines);
}

}  // namespace veomni::train
