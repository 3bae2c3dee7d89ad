// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "commands.h"
#include "veomni/data/bpe_trainer.h"
#include "veomni/data/source.h"
#include "veomni/io/output_file.h"
#include "veomni/io/tokenizer_json.h"

namespace veomni::cli {

namespace {

struct TrainTokenizerFlags {
  std::vector<std::string> files;
  std::string out, format = "text_lines";
  data::BpeTrainerOptions options;
};

// The texts of all files, conversations as their messages' contents.
data::TextIterator texts_of(const TrainTokenizerFlags& flags) {
  struct Cursor {
    std::vector<std::unique_ptr<data::Source>> sources;
    size_t source = 0;
    int64_t record = 0;
  };
  auto cursor = std::make_shared<Cursor>();
  for (const auto& file : flags.files)
    cursor->sources.push_back(data::open_file_source({file, flags.format}));
  return [cursor]() -> std::optional<std::string> {
    while (cursor->source < cursor->sources.size() &&
           cursor->record == cursor->sources[cursor->source]->size()) {
      ++cursor->source;
      cursor->record = 0;
    }
    if (cursor->source == cursor->sources.size()) return std::nullopt;
    const auto record = cursor->sources[cursor->source]->read(cursor->record++);
    std::string text = record.text;
    for (const auto& message : record.messages) text += message.content + "\n";
    return text;
  };
}

const std::string& named_or(const std::vector<std::string>& tokens, const char* name,
                            const std::string& otherwise) {
  const auto found = std::find(tokens.begin(), tokens.end(), name);
  return found == tokens.end() ? otherwise : *found;
}

void train_tokenizer(const TrainTokenizerFlags& flags) {
  const auto spec = data::train_bpe(texts_of(flags), flags.options);
  std::filesystem::create_directories(flags.out);
  io::write_file(flags.out + "/tokenizer.json", io::write_tokenizer_json(spec));
  const auto& special = flags.options.special_tokens;
  nlohmann::json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                           {"clean_up_tokenization_spaces", false}};
  if (!special.empty()) {
    config["pad_token"] = named_or(special, "<|endoftext|>", special.front());
    config["eos_token"] = named_or(special, "<|im_end|>", special.back());
  }
  io::write_file(flags.out + "/tokenizer_config.json", config.dump(2) + "\n");
  fmt::print("{}/tokenizer.json: {} entries ({} merges, {} special tokens)\n", flags.out,
             spec.vocab_size(), spec.merges.size(), special.size());
}

}  // namespace

void add_data(CLI::App& app) {
  auto* command = app.add_subcommand("data", "Tools for training data");
  command->require_subcommand(1);
  auto flags = std::make_shared<TrainTokenizerFlags>();
  auto* trainer = command->add_subcommand("train-tokenizer",
                                          "Learns a byte-level BPE and writes DIR/tokenizer.json");
  trainer->add_option("FILES", flags->files, "text or JSONL files, directories or globs")
      ->required();
  trainer->add_option("--out", flags->out, "directory to write")->required();
  trainer->add_option("--vocab-size", flags->options.vocab_size, "entries, special tokens included")
      ->capture_default_str();
  trainer->add_option("--style", flags->options.style, "how text is split before merging")
      ->check(CLI::IsMember({"qwen2", "gpt2"}))
      ->capture_default_str();
  trainer
      ->add_option(
          "--special,--special-tokens", flags->options.special_tokens,
          "all special tokens, put after the merges; default: the chat template's and those "
          "of media")
      ->default_str("");
  trainer->add_option("--format", flags->format, "how the files are read")
      ->check(CLI::IsMember({"auto", "jsonl", "text_lines", "text_paragraphs"}))
      ->capture_default_str();
  trainer->callback([flags] { train_tokenizer(*flags); });
  add_data_features(*command);
}

}  // namespace veomni::cli
