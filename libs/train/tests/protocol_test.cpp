// SPDX-License-Identifier: Apache-2.0
// docs/protocol.md says who is called when and with which shapes; here one step and one generation are recorded.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "objective.h"
#include "veomni/data/bpe_trainer.h"
#include "veomni/data/loader.h"
#include "veomni/data/prompt.h"
#include "veomni/generate/generate.h"
#include "veomni/io/output_file.h"
#include "veomni/model/omni_model.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/loss.h"
#include "veomni/ops/rows.h"

namespace veomni::train {
namespace {

namespace fs = std::filesystem;
using model::Grid;

constexpr int64_t kWidth = 8;   // of the foundation
constexpr int64_t kPixels = 4;  // values a feature row
constexpr int64_t kCodes = 5;
constexpr int64_t kRows = 4;        // feature rows of a picture that is read
constexpr int64_t kReadTokens = 2;  // their tokens
constexpr int64_t kDrawnTokens = 3;

// The calls of a run, one line each.
class Calls {
 public:
  void add(const std::string& line) {
    std::lock_guard lock(mutex_);
    text_ += line + "\n";
  }
  std::string take() { return std::exchange(text_, ""); }

 private:
  std::mutex mutex_;
  std::string text_;
};

std::string shape(const torch::Tensor& tensor) {
  std::ostringstream out;
  out << tensor.sizes();
  return out.str();
}

class RecordingProcessor final : public media::Processor {
 public:
  RecordingProcessor(Calls& calls, std::string part, int64_t rows, int64_t tokens)
      : calls_(calls), part_(std::move(part)), rows_(rows), tokens_(tokens) {}
  media::Features process(std::span<const std::byte>, const std::string&) const override {
    calls_.add(part_ + ".processor.process(file) -> features [" + std::to_string(rows_) + ", " +
               std::to_string(kPixels) + "], " + std::to_string(tokens_) + " tokens");
    return {std::vector<float>(rows_ * kPixels, 0.5f),
            rows_,
            kPixels,
            {1, 1, rows_},
            tokens_,
            {tokens_, 1, 1}};
  }
  std::vector<std::byte> postprocess(std::span<const float> values, const Grid&) const override {
    calls_.add(part_ + ".processor.postprocess([" + std::to_string(values.size()) +
               " values]) -> a file");
    return {};
  }

 private:
  Calls& calls_;
  std::string part_;
  int64_t rows_, tokens_;
};

class RecordingEncoder final : public model::Encoder {
 public:
  explicit RecordingEncoder(Calls& calls)
      : calls_(calls), proj_(kPixels, kWidth, false, nn::Init::normal(1), {}) {
    child("proj", proj_);
  }
  torch::Tensor lm_encode(const torch::Tensor& features_PF,
                          const std::vector<Grid>& grids) override {
    const auto rows = features_PF.view({-1, kRows, kPixels}).narrow(1, 0, kReadTokens);
    auto out = proj_.forward(rows.reshape({-1, kPixels}));
    calls_.add("encoders.image.lm_encode(features " + shape(features_PF) + ", " +
               std::to_string(grids.size()) + " grids) -> " + shape(out));
    return out;
  }
  int64_t feature_width() const override { return kPixels; }
  int64_t output_size() const override { return kWidth; }
  int64_t num_tokens(const Grid&) const override { return kReadTokens; }
  const nlohmann::json& config() const override { return config_; }
  io::RuleSet rules() const override { return io::RuleSet(std::vector<io::TensorRule>{}); }
  bool is_projector(const std::string&) const override { return true; }
  std::unique_ptr<media::Processor> make_processor(const nlohmann::json&) const override {
    return nullptr;
  }
  double flops(const std::vector<Grid>&) const override { return 0; }

 private:
  Calls& calls_;
  nn::Linear proj_;
  nlohmann::json config_;
};

class RecordingFoundation final : public model::Foundation {
 public:
  RecordingFoundation(Calls& calls, int64_t vocab)
      : calls_(calls), vocab_(vocab), table_(vocab, kWidth, nn::Init::normal(1), {}) {
    child("table", table_);
  }
  torch::Tensor embed(const torch::Tensor& ids_T) override {
    auto x = table_.forward(ids_T);
    calls_.add("foundation.embed(ids " + shape(ids_T) + ") -> " + shape(x));
    return x;
  }
  torch::Tensor forward(const torch::Tensor& x_TD, const nn::Sequence& seq) override {
    calls_.add("foundation.forward(x " + shape(x_TD) + ", " +
               std::to_string(seq->cu_seqlens.size() - 1) + " sequences) -> hidden " + shape(x_TD));
    return x_TD * 1.0;
  }
  torch::Tensor lm_head(const torch::Tensor& hidden_RD) override {
    auto logits = hidden_RD.matmul(table_.weight().value().t());
    calls_.add("foundation.lm_head(hidden " + shape(hidden_RD) + ") -> logits " + shape(logits));
    return logits;
  }
  model::TokenLoss lm_loss(const torch::Tensor& hidden_TD, const torch::Tensor& labels_T,
                           const torch::Tensor& weights_T) override {
    calls_.add("foundation.lm_loss(hidden " + shape(hidden_TD) + ", labels " + shape(labels_T) +
               ", weights " + shape(weights_T) + ") -> loss [], token losses " + shape(labels_T));
    auto loss = ops::linear_cross_entropy(hidden_TD, table_.weight().value(), labels_T, weights_T);
    return {loss.total, loss.token_T};
  }
  torch::Tensor token_losses(const torch::Tensor& hidden_TD, const torch::Tensor&) override {
    return hidden_TD;
  }
  const nlohmann::json& config() const override { return config_; }
  int64_t hidden_size() const override { return kWidth; }
  int64_t vocab_size() const override { return vocab_; }
  io::RuleSet rules() const override { return io::RuleSet(std::vector<io::TensorRule>{}); }
  double weight_flops_per_token() const override { return 0; }
  double attention_flops(int64_t) const override { return 0; }

 private:
  Calls& calls_;
  int64_t vocab_;
  nn::Embedding table_;
  nlohmann::json config_;
};

class RecordingDecoder final : public model::Decoder {
 public:
  explicit RecordingDecoder(Calls& calls)
      : calls_(calls), codes_(kCodes, kWidth, nn::Init::normal(1), {}) {
    child("codes", codes_);
  }
  torch::Tensor encode(const torch::Tensor& features_PF, const std::vector<Grid>& grids) override {
    auto codes = torch::zeros({static_cast<int64_t>(grids.size()) * kDrawnTokens}, torch::kLong);
    calls_.add("decoders.image.lm_encode(features " + shape(features_PF) + ", " +
               std::to_string(grids.size()) + " grids) -> codes " + shape(codes) +
               ", embeddings by lm_embed");
    return codes;
  }
  torch::Tensor lm_generate(const torch::Tensor& codes_R, const std::vector<Grid>& grids) override {
    auto values = torch::zeros({static_cast<int64_t>(grids.size()) * kRows, kPixels});
    calls_.add("decoders.image.lm_generate(codes " + shape(codes_R) + ") -> values " +
               shape(values));
    return values;
  }
  torch::Tensor reconstruct(const torch::Tensor& features_PF, const std::vector<Grid>&) override {
    return features_PF;
  }
  std::map<std::string, torch::Tensor> tokenizer_losses(const torch::Tensor&,
                                                        const std::vector<Grid>&, double,
                                                        bool) override {
    return {};
  }
  torch::Tensor latents(const torch::Tensor& features_PF, const std::vector<Grid>&) override {
    return features_PF;
  }
  nn::Parameter codebook() override { return codes_.weight(); }
  torch::Tensor lm_embed(const torch::Tensor& codes_R) override {
    auto x = codes_.forward(codes_R);
    calls_.add("decoders.image.lm_embed(codes " + shape(codes_R) + ") -> " + shape(x));
    return x;
  }
  torch::Tensor lm_head(const torch::Tensor& hidden_RD) override {
    auto logits = hidden_RD.matmul(codes_.weight().value().t());
    calls_.add("decoders.image.lm_head(hidden " + shape(hidden_RD) + ") -> logits " +
               shape(logits));
    return logits;
  }
  model::TokenLoss lm_loss(const torch::Tensor& hidden_RD, const torch::Tensor& codes_R,
                           const torch::Tensor& weights_R) override {
    calls_.add("decoders.image.lm_loss(hidden " + shape(hidden_RD) + ", codes " + shape(codes_R) +
               ", weights " + shape(weights_R) + ") -> loss [], token losses " + shape(codes_R));
    auto loss = ops::linear_cross_entropy(hidden_RD, codes_.weight().value(), codes_R, weights_R);
    return {loss.total, loss.token_T};
  }
  int64_t feature_width() const override { return kPixels; }
  int64_t num_codes() const override { return kCodes; }
  int64_t lm_width() const override { return kWidth; }
  int64_t num_tokens(const Grid&) const override { return kDrawnTokens; }
  Grid default_grid() const override { return {1, 1, kRows}; }
  const nlohmann::json& config() const override { return config_; }
  io::RuleSet rules() const override { return io::RuleSet(std::vector<io::TensorRule>{}); }
  bool is_tokenizer(const std::string&) const override { return false; }
  bool is_code_embedding(const std::string&) const override { return true; }
  std::unique_ptr<media::Processor> make_processor(const nlohmann::json&) const override {
    return nullptr;
  }
  Flops flops(const Grid&) const override { return {}; }

 private:
  Calls& calls_;
  nn::Embedding codes_;
  nlohmann::json config_;
};

class RecordingScatter final : public nn::EmbedScatter {
 public:
  explicit RecordingScatter(Calls& calls) : calls_(calls) {}
  torch::Tensor deliver(torch::Tensor rows_PD, const nn::Routes& routes) override {
    calls_.add("EmbedScatter.deliver(rows " + shape(rows_PD) + ") -> rows of tokens " +
               shape(routes.tokens));
    return rows_PD;
  }

 private:
  Calls& calls_;
};

// What stands between "<!-- calls:NAME:begin -->" and its end in docs/protocol.md, without the code fence.
std::string page_section(const std::string& name) {
  std::ifstream file(std::string(VEOMNI_SOURCE_DIR) + "/docs/protocol.md");
  std::stringstream text;
  text << file.rdbuf();
  const std::string page = text.str();
  const std::string begin = "<!-- calls:" + name + ":begin -->\n```\n",
                    end = "```\n<!-- calls:" + name + ":end -->";
  const size_t from = page.find(begin), to = page.find(end);
  if (from == page.npos || to == page.npos) return "docs/protocol.md has no section " + name;
  return page.substr(from + begin.size(), to - from - begin.size());
}

class Protocol : public testing::Test {
 protected:
  Protocol()
      : folder_(fs::temp_directory_path() / ("veomni_protocol_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
    io::write_file(folder_ / "x.png", "not looked at");
    bool given = false;
    tokenizer_ = data::Tokenizer(data::train_bpe(
        [&]() -> std::optional<std::string> {
          if (std::exchange(given, true)) return std::nullopt;
          return "draw it";
        },
        {.vocab_size = 300}));
    auto parts = model::OmniModel::Parts{};
    parts.foundation = std::make_unique<RecordingFoundation>(calls_, tokenizer_.vocab_size());
    parts.encoders["image"] = std::make_unique<RecordingEncoder>(calls_);
    parts.decoders["image"] = std::make_unique<RecordingDecoder>(calls_);
    model_ = std::make_unique<model::OmniModel>(std::move(parts), nn::ParamOptions{});
    nn::assign_names(*model_);
    nn::initialize(*model_, 1);
    for (auto& [path, slot] : nn::find_modules<nn::ScatterSlot>(*model_))
      slot->set_scatter(std::make_shared<RecordingScatter>(calls_));
    processors_.inputs["image"] =
        std::make_shared<RecordingProcessor>(calls_, "encoders.image", kRows, kReadTokens);
    processors_.targets["image"] =
        std::make_shared<RecordingProcessor>(calls_, "decoders.image", kRows, kDrawnTokens);
  }
  ~Protocol() override { fs::remove_all(folder_); }

  Calls calls_;
  fs::path folder_;
  data::Tokenizer tokenizer_;
  std::unique_ptr<model::OmniModel> model_;
  data::MediaProcessors processors_;
};

TEST_F(Protocol, OneTrainingStepIsAsThePageSays) {
  io::write_file(
      folder_ / "data.jsonl",
      R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]},)"
      R"( {"role": "assistant", "content": [{"type": "image", "image": "x.png"}]}]})"
      "\n");
  Recipe recipe;
  recipe.data.chat_template = "plain";
  recipe.data.sources = {{.name = "pictures", .path = (folder_ / "data.jsonl").string()}};
  recipe.data.prefetch = 0;
  recipe.data.decode_threads = 0;
  recipe.data.open_bins = 1;
  data::Loader loader(recipe.data, {.micro_batch_tokens = 13}, tokenizer_, processors_);
  const auto batch = data::collate(loader.next().at(0));
  // The loader may have read ahead; the page speaks of one record.
  std::istringstream read(calls_.take());
  std::string first, second;
  std::getline(read, first);
  std::getline(read, second);
  calls_.add(first);
  calls_.add(second);
  auto objective = make_objective(recipe, *model_);
  objective->forward(batch, objective->counts(batch), 0).total.backward();
  EXPECT_EQ(calls_.take(), page_section("training"));
}

TEST_F(Protocol, OneGenerationIsAsThePageSays) {
  data::DataOptions options;
  options.chat_template = "plain";
  const data::PromptMaker maker(options, tokenizer_, processors_);
  data::Message message{"user", "draw it"};
  message.media.push_back({"image", (folder_ / "x.png").string(), 0});
  generate::Prompt prompt{maker.make({&message, 1}), {}, 0};
  generate::GenerateRules rules;
  rules.media["image"] = {maker.begin_token("image"), maker.end_token("image"),
                          model_->decoder("image").default_grid()};
  rules.force = "image";
  generate::GenerateOptions generate_options;
  generate_options.max_new_tokens = 1;
  const auto results = generate::generate(*model_, {prompt}, generate_options, rules);
  const auto codes = results[0].codes("image");
  ASSERT_EQ(codes.size(), kDrawnTokens);
  const auto values = model_->lm_generate(
      "image", torch::tensor(std::vector<int64_t>(codes.begin(), codes.end())), {{1, 1, kRows}});
  processors_.targets["image"]->postprocess(
      {values.const_data_ptr<float>(), static_cast<size_t>(values.numel())}, {1, 1, kRows});
  EXPECT_EQ(calls_.take(), page_section("generation"));
}

}  // namespace
}  // namespace veomni::train
