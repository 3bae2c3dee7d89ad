// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/serve.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "eval_media.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/data/prompt.h"
#include "veomni/io/hf_directory.h"
#include "veomni/io/json_fields.h"
#include "veomni/io/output_file.h"
#include "veomni/model/build.h"
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

std::unique_ptr<model::OmniModel> load_model(const ServeOptions& options,
                                             const model::ModelOptions& model_options) {
  const auto directory = io::HfDirectory::open(
      model_options.foundation.path.empty() ? options.model_dir : model_options.foundation.path);
  const auto dtype =
      nn::parse_dtype(options.dtype == "auto" ? saved_dtype(directory) : options.dtype);
  auto model = model::build_model(model_options, {torch::kMeta, dtype});
  VEOMNI_CHECK_CONFIG(model->has_foundation(), options.model_dir,
                      ": holds no foundation, so nothing answers; name a whole model's directory");
  nn::materialize(*model, torch::kCPU, nn::Masters::kNone);
  model::fill_weights(*model, model_options, 0);
  return model;
}

// Every prompt with the files before its text.
std::vector<data::Message> message_of(const ServeOptions& options, const std::string& prompt) {
  data::Message message{"user", prompt};
  for (const auto& file : options.images) message.media.push_back({"image", file, 0});
  for (const auto& file : options.audios) message.media.push_back({"audio", file, 0});
  return {message};
}

// The prompts, and what ends, begins and forces their answers.
std::vector<generate::Prompt> make_prompts(const ServeOptions& options, model::OmniModel& model,
                                           const data::Tokenizer& tokenizer,
                                           const data::MediaProcessors& processors,
                                           generate::GenerateRules& rules) {
  std::vector<generate::Prompt> prompts;
  const bool drawing = options.output_modality != "text";
  if (options.chat_template == "none") {
    VEOMNI_CHECK_CONFIG(
        options.images.empty() && options.audios.empty() && !drawing,
        "--template none takes text alone; pictures and sound need a chat template");
    for (const auto& text : options.prompts) {
      data::Sample sample;
      sample.ids = tokenizer.encode(text, true);
      sample.labels.assign(sample.ids.size(), -100);
      prompts.push_back({std::move(sample), {}, prompts.size()});
    }
    rules.stop_ids = tokenizer.special().stop;
    return prompts;
  }
  data::DataOptions data_options;
  data_options.chat_template = options.chat_template;
  const data::PromptMaker maker(data_options, tokenizer, processors);
  for (const auto& text : options.prompts) {
    const auto messages = message_of(options, text);
    auto without =
        options.generate.guidance == 1.0 ? data::Sample{} : maker.make_unconditional(messages);
    prompts.push_back({maker.make(messages), std::move(without), prompts.size()});
  }
  rules.stop_ids = maker.stop_ids();
  rules.media = media_tokens(model, maker);
  if (drawing) rules.force = options.output_modality;
  return prompts;
}

// picture.png -> picture_3.png where there are several.
std::string numbered(const std::string& file, size_t index, size_t count) {
  if (count == 1) return file;
  const std::filesystem::path path(file);
  return (path.parent_path() /
          fmt::format("{}_{}{}", path.stem().string(), index, path.extension().string()))
      .string();
}

}  // namespace

void run_generate(const ServeOptions& options) {
  apply_memory({});
  const bool drawing = options.output_modality != "text";
  VEOMNI_CHECK_CONFIG(!drawing || !options.out.empty(), "--output-modality ",
                      options.output_modality, " needs --out FILE to write to");
  const auto model_options = model::options_of_directory(options.model_dir);
  const auto tokenizer = data::Tokenizer::from_file(options.model_dir);
  auto model = load_model(options, model_options);
  VEOMNI_CHECK_CONFIG(!drawing || model->decoders().contains(options.output_modality),
                      options.model_dir, ": this model draws no ", options.output_modality);
  check_vocabulary(tokenizer, model->foundation().vocab_size(), options.model_dir);
  const auto processors = make_processors(*model, model_options);
  generate::GenerateRules rules;
  const auto prompts = make_prompts(options, *model, tokenizer, processors, rules);
  const auto results = generate::generate(*model, prompts, options.generate, rules);

  std::string lines;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto ids = results[i].text();
    const auto answer = tokenizer.decode(ids);
    if (!options.out.empty() && !drawing) {
      lines += json_line(options.prompts[i], answer, ids);
    } else if (results.size() > 1) {
      fmt::print("> {}\n{}\n\n", options.prompts[i], answer);
    } else if (!drawing || !answer.empty()) {
      fmt::print("{}\n", answer);
    }
  }
  if (!drawing) {
    if (!options.out.empty()) io::write_file(options.out, lines);
    return;
  }
  const auto files = draw_files(*model, processors, options.output_modality, results);
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string file = numbered(options.out, i, files.size());
    io::write_file(file, {reinterpret_cast<const char*>(files[i].data()), files[i].size()});
    fmt::print("{}\n", file);
  }
}

}  // namespace veomni::train
