// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <vector>

#include "commands.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/io/hf_directory.h"
#include "veomni/io/mapped_file.h"
#include "veomni/io/safetensors.h"
#include "veomni/model/build.h"
#include "veomni/model/registration.h"

namespace veomni::cli {

namespace {

struct FeaturesFlags {
  std::string model_dir, file, out, modality, part;
};

/// A part of the directory that has a processor.
struct Part {
  std::string kind, modality;
  const model::PartOptions* options;
};

Part chosen_part(const model::ModelOptions& options, const FeaturesFlags& flags) {
  std::vector<Part> all, fitting;
  for (const auto& [modality, part] : options.encoders) all.push_back({"encoder", modality, &part});
  for (const auto& [modality, part] : options.decoders) all.push_back({"decoder", modality, &part});
  std::vector<std::string> names;
  for (const auto& part : all) {
    names.push_back(part.modality + " " + part.kind);
    if ((flags.modality.empty() || flags.modality == part.modality) &&
        (flags.part.empty() || flags.part == part.kind))
      fitting.push_back(part);
  }
  VEOMNI_CHECK_CONFIG(
      fitting.size() == 1, flags.model_dir, ": ",
      fitting.empty() ? "no such part" : "several parts",
      "; choose by --modality and --part among: ", names.empty() ? "none" : join(names));
  return fitting.front();
}

std::unique_ptr<media::Processor> processor_of(const Part& part) {
  const auto directory = io::HfDirectory::open(part.options->path);
  const auto config = model::find_part(part.kind, part.modality, part.options->type,
                                       directory.config(), directory.config_path());
  const auto preprocessor = model::preprocessor_config(*part.options);
  // Sizes alone count: no memory is taken for weights.
  const nn::ParamOptions meta{.device = torch::kMeta};
  if (part.kind == "encoder")
    return model::make_encoder(config, directory.config_path(), meta)->make_processor(preprocessor);
  return model::make_decoder(config, directory.config_path(), 0, meta)
      ->make_processor(preprocessor);
}

template <typename T> std::span<const std::byte> bytes_of(const T& values) {
  return std::as_bytes(std::span(values));
}

void write_features(const FeaturesFlags& flags) {
  const auto options = model::options_of_directory(flags.model_dir);
  const auto processor = processor_of(chosen_part(options, flags));
  const io::MappedFile file(flags.file);
  const auto features = processor->process(file.bytes(), flags.file);
  const std::array<int64_t, 1> tokens{features.tokens};
  const io::TensorEntry entries[] = {
      {"features", io::DType::F32, {features.rows, features.width}, bytes_of(features.values)},
      {"grid", io::DType::I64, {3}, bytes_of(features.grid)},
      {"token_grid", io::DType::I64, {3}, bytes_of(features.token_grid)},
      {"tokens", io::DType::I64, {1}, bytes_of(tokens)}};
  io::write_safetensors(flags.out, entries, {{"format", "pt"}});
  fmt::print("{}: {} rows of {} for {} tokens\n", flags.out, features.rows, features.width,
             features.tokens);
}

}  // namespace

void add_data_features(CLI::App& data) {
  auto flags = std::make_shared<FeaturesFlags>();
  auto* command = data.add_subcommand(
      "features", "Writes what a part of a model reads of a picture or a sound");
  command->add_option("MODEL_DIR", flags->model_dir, "a part's or a whole model's directory")
      ->required();
  command->add_option("FILE", flags->file, "a picture or a sound")->required();
  command->add_option("OUT", flags->out, "safetensors file to write")->required();
  command->add_option("--modality", flags->modality, "which part's; needed if there are several")
      ->check(CLI::IsMember({"image", "audio"}));
  command->add_option("--part", flags->part, "likewise")
      ->check(CLI::IsMember({"encoder", "decoder"}));
  command->callback([flags] { write_features(*flags); });
}

}  // namespace veomni::cli
