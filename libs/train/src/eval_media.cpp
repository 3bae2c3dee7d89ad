// SPDX-License-Identifier: Apache-2.0
#include "eval_media.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "batch_input.h"
#include "veomni/base/error.h"
#include "veomni/data/eval_stream.h"
#include "veomni/data/media_location.h"
#include "veomni/data/prompt.h"
#include "veomni/io/output_file.h"

namespace veomni::train {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kBatch = 256;    // prompts or items that go through the model together
constexpr size_t kShownRead = 24;  // items of a source in the report
constexpr size_t kShownDrawn = 60;

std::string trimmed(const std::string& text) {
  const char* space = " \t\r\n";
  const size_t begin = text.find_first_not_of(space);
  if (begin == text.npos) return "";
  return text.substr(begin, text.find_last_not_of(space) - begin + 1);
}

std::string to_string(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string mime_of(const std::string& extension) {
  return extension == "wav" ? "audio/wav" : "image/" + extension;
}

// A record cut at its last assistant message.
struct Question {
  std::vector<data::Message> messages;
  data::Message answer;

  std::string text() const {
    std::string all;
    for (const auto& message : messages) {
      if (message.role == "user") all += message.content;
    }
    return all;
  }
};

Question question_of(const data::Record& record, const std::string& where) {
  Question question;
  size_t last = record.messages.size();
  while (last > 0 && record.messages[last - 1].role != "assistant") --last;
  VEOMNI_CHECK(last > 1, where, ": needs a user message and an assistant's after it");
  question.messages.assign(record.messages.begin(), record.messages.begin() + (last - 1));
  question.answer = record.messages[last - 1];
  return question;
}

// The records of an eval source, as many as it asks for.
class Records {
 public:
  explicit Records(const EvalSourceOptions& options)
      : source_(data::open_file_source({options.path, options.format})),
        size_(options.max_records > 0 ? std::min(options.max_records, source_->size())
                                      : source_->size()) {}
  int64_t size() const { return size_; }
  Question question(int64_t index) const {
    return question_of(source_->read(index), source_->where(index));
  }
  data::Record record(int64_t index) const { return source_->read(index); }

 private:
  std::unique_ptr<data::Source> source_;
  int64_t size_;
};

// Files of one source, and the list that says what each is.
class ItemWriter {
 public:
  ItemWriter(const std::string& directory, const std::string& source)
      : folder_(directory.empty() ? "" : directory + "/pictures/" + source) {
    if (folder_.empty()) return;
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void add(const std::string& file, const std::vector<std::byte>& bytes, const std::string& prompt,
           const char* kind) {
    if (folder_.empty()) return;
    if (!bytes.empty()) io::write_file(folder_ + "/" + file, to_string(bytes));
    const nlohmann::ordered_json line = {
        {"file", bytes.empty() ? "" : file}, {"prompt", prompt}, {"kind", kind}};
    index_ += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  void finish() {
    if (!folder_.empty()) io::write_file(folder_ + "/index.jsonl", index_);
  }

 private:
  std::string folder_, index_;
};

// The modality of the assistant's first item.
std::string drawn_modality(const Question& question, const std::string& source) {
  VEOMNI_CHECK(!question.answer.media.empty(), "eval source ", source,
               ": `generated` needs an assistant message with a picture or sound");
  return question.answer.media.front().modality;
}

}  // namespace

std::map<std::string, generate::MediaTokens> media_tokens(model::OmniModel& model,
                                                          const data::PromptMaker& maker) {
  std::map<std::string, generate::MediaTokens> tokens;
  for (const auto& [modality, decoder] : model.decoders()) {
    tokens[modality] = {maker.begin_token(modality), maker.end_token(modality),
                        decoder->default_grid()};
  }
  return tokens;
}

std::vector<std::vector<std::byte>> draw_files(model::OmniModel& model,
                                               const data::MediaProcessors& processors,
                                               const std::string& modality,
                                               const std::vector<generate::Generation>& results) {
  auto& decoder = model.decoder(modality);
  const auto& processor = *processors.targets.at(modality);
  const auto grid = decoder.default_grid();
  const size_t length = decoder.num_tokens(grid);
  std::vector<std::vector<std::byte>> files(results.size());
  std::vector<size_t> drawn;
  std::vector<int64_t> codes;
  const auto flush = [&] {
    if (drawn.empty()) return;
    const auto values = model
                            .lm_generate(modality, torch::tensor(codes, torch::kLong),
                                         std::vector<model::Grid>(drawn.size(), grid))
                            .to(torch::kFloat)
                            .contiguous();
    const size_t each = values.numel() / drawn.size();
    for (size_t i = 0; i < drawn.size(); ++i)
      files[drawn[i]] =
          processor.postprocess({values.const_data_ptr<float>() + i * each, each}, grid);
    drawn.clear();
    codes.clear();
  };
  for (size_t i = 0; i < results.size(); ++i) {
    const auto item = results[i].codes(modality);
    if (item.size() != length) continue;
    drawn.push_back(i);
    codes.insert(codes.end(), item.begin(), item.end());
    if (static_cast<int64_t>(drawn.size()) == kBatch) flush();
  }
  flush();
  return files;
}

double MediaEvaluation::accuracy(const EvalSourceOptions& source) const {
  const Records records(source);
  const data::PromptMaker maker(recipe.data, tokenizer, processors);
  const generate::GenerateRules rules{.stop_ids = maker.stop_ids()};
  int64_t right = 0;
  size_t shown = 0;
  for (int64_t begin = 0; begin < records.size(); begin += kBatch) {
    std::vector<Question> questions;
    std::vector<generate::Prompt> prompts;
    for (int64_t i = begin; i < std::min(begin + kBatch, records.size()); ++i) {
      questions.push_back(records.question(i));
      prompts.push_back({maker.make(questions.back().messages), {}, static_cast<uint64_t>(i)});
    }
    const auto results =
        generate::generate(model, prompts, source.generate.value_or(recipe.eval.generate), rules);
    for (size_t i = 0; i < results.size(); ++i) {
      const std::string answer = trimmed(tokenizer.decode(results[i].text()));
      const std::string wanted = trimmed(questions[i].answer.content);
      right += answer == wanted;
      if (shown >= kShownRead) continue;
      for (const auto& message : questions[i].messages) {
        for (const auto& part : message.media) {
          // Browsers tell kinds of pictures apart by their content.
          exhibits.push_back(
              {source.name, part.modality == "audio" ? "audio/wav" : "image/png",
               to_string(data::read_location(part.location, recipe.data.max_media_bytes)),
               answer == wanted ? answer : answer + " (is: " + wanted + ")"});
          ++shown;
        }
      }
    }
  }
  VEOMNI_CHECK(records.size() > 0, "eval source ", source.name, " has no records");
  return static_cast<double>(right) / static_cast<double>(records.size());
}

int64_t MediaEvaluation::generate_items(const EvalSourceOptions& source) const {
  const Records records(source);
  const data::PromptMaker maker(recipe.data, tokenizer, processors);
  const auto options = source.generate.value_or(recipe.eval.generate);
  ItemWriter writer(directory, source.name);
  int64_t count = 0;
  size_t shown = 0;
  std::vector<generate::Prompt> prompts;
  std::vector<std::string> texts;
  std::string modality;
  const auto flush = [&] {
    if (prompts.empty()) return;
    const generate::GenerateRules rules{.stop_ids = maker.stop_ids(),
                                        .media = media_tokens(model, maker),
                                        .force = modality,
                                        .one_item = true};
    const auto files =
        draw_files(model, processors, modality, generate::generate(model, prompts, options, rules));
    const std::string extension = processors.targets.at(modality)->extension();
    for (size_t i = 0; i < files.size(); ++i, ++count) {
      writer.add(fmt::format("{:05}.{}", count, extension), files[i], texts[i], "generated");
      // Spread over the prompts: the first few of each.
      const bool show = shown < kShownDrawn && count % source.repeat < 6;
      if (!show) continue;
      exhibits.push_back({source.name, mime_of(extension), to_string(files[i]), texts[i]});
      ++shown;
    }
    prompts.clear();
    texts.clear();
  };
  for (int64_t i = 0; i < records.size(); ++i) {
    const auto question = records.question(i);
    const std::string wanted = drawn_modality(question, source.name);
    if (wanted != modality) flush();
    modality = wanted;
    const auto sample = maker.make(question.messages);
    const auto without =
        options.guidance == 1.0 ? data::Sample{} : maker.make_unconditional(question.messages);
    for (int64_t k = 0; k < source.repeat; ++k) {
      prompts.push_back({sample, without, static_cast<uint64_t>(i * source.repeat + k)});
      texts.push_back(question.text());
      if (static_cast<int64_t>(prompts.size()) == kBatch) flush();
    }
  }
  flush();
  writer.finish();
  return count;
}

MediaEvaluation::Reconstruction MediaEvaluation::reconstruct_items(const EvalSourceOptions& source,
                                                                   bool write) const {
  data::DataOptions options = recipe.data;
  options.sources = {{.name = source.name, .path = source.path, .format = source.format}};
  // One rank's plan: every rank walks everything.
  data::LoaderPlan plan;
  plan.micro_batch_tokens = recipe.train.micro_batch_tokens;
  data::MediaProcessors only_targets = processors;
  only_targets.only_targets = true;
  only_targets.inputs.clear();
  data::EvalStream stream(options, plan, tokenizer, source.max_records, only_targets);
  const Records records(source);
  ItemWriter writer(write ? directory : "", source.name);
  double squares = 0, values = 0;
  std::map<std::string, std::vector<double>> code_counts;
  int64_t count = 0;
  size_t shown = 0;
  while (auto micro_batch = stream.next()) {
    const auto batch = data::collate(*micro_batch);
    std::map<std::string, torch::Tensor> rebuilt;
    for (const auto& [modality, items] : batch.targets) {
      const auto input = media_input(items);
      const auto codes_R = model.codes(modality, input);
      const auto out_PF = model.lm_generate(modality, codes_R, items.grids).to(torch::kFloat);
      squares += (out_PF - items.features_PF).square().sum(torch::kDouble).item<double>();
      values += static_cast<double>(out_PF.numel());
      auto& counts = code_counts[modality];
      counts.resize(model.decoder(modality).num_codes());
      for (int64_t i = 0; i < codes_R.size(0); ++i) ++counts[codes_R.const_data_ptr<int64_t>()[i]];
      rebuilt[modality] = out_PF.contiguous();
    }
    if (!write) continue;
    std::map<std::string, int64_t> next_row;
    for (const auto& sample : micro_batch->samples) {
      for (const auto& item : sample.media) {
        const auto& features = *item.features;
        int64_t& row = next_row[item.modality];
        const auto rows = rebuilt.at(item.modality).narrow(0, row, features.rows);
        row += features.rows;
        const auto& processor = *processors.targets.at(item.modality);
        const auto bytes = processor.postprocess(
            {rows.const_data_ptr<float>(), static_cast<size_t>(rows.numel())}, features.grid);
        const auto record = records.record(sample.ref.record);
        const std::string text =
            record.messages.empty() ? "" : question_of(record, source.name).text();
        writer.add(fmt::format("{:05}.{}", count++, processor.extension()), bytes, text,
                   "reconstruction");
        if (shown >= kShownRead) continue;
        ++shown;
        const std::string mime = mime_of(processor.extension());
        exhibits.push_back({source.name, mime,
                            to_string(processor.postprocess(features.values, features.grid)),
                            "original"});
        exhibits.push_back({source.name, mime, to_string(bytes), "from its codes"});
      }
    }
  }
  writer.finish();
  VEOMNI_CHECK(values > 0, "eval source ", source.name, " has no media to rebuild");
  double entropy = 0;
  for (const auto& [modality, counts] : code_counts) {
    double total = 0;
    for (double c : counts) total += c;
    for (double c : counts) entropy -= c > 0 ? c / total * std::log(c / total) : 0;
  }
  return {squares / values, std::exp(entropy)};
}

}  // namespace veomni::train
