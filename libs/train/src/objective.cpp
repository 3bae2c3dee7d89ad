// SPDX-License-Identifier: Apache-2.0
#include "objective.h"

#include <algorithm>

#include "batch_input.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/ops/loss.h"

namespace veomni::train {

namespace {

bool trains(nn::Module& module) {
  const auto parameters = module.named_parameters();
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const auto& entry) { return entry.second.trainable(); });
}

// Forward once; backward twice that where there is one.
double passes(bool backward) { return backward ? 3.0 : 1.0; }

class TokenObjective final : public Objective {
 public:
  TokenObjective(const Recipe& recipe, model::OmniModel& model)
      : model_(model),
        // Gradients pass through a frozen foundation to what trains before it.
        foundation_passes_(trains(model.foundation()) ? 3.0
                           : trains(model)            ? 2.0
                                                      : 1.0) {
    for (const auto& [modality, encoder] : model.encoders())
      encoder_passes_[modality] = passes(trains(*encoder));
    for (const auto& [modality, decoder] : model.decoders())
      head_passes_[modality] = passes(trains(*decoder));
    for (const auto& source : recipe.data.sources) {
      loss_of_source_.push_back(source.loss);
      weights_[source.loss] = 1.0;
    }
    for (const auto& [modality, decoder] : model.decoders()) {
      VEOMNI_CHECK_CONFIG(!weights_.contains(modality), recipe.file, ": data.sources: loss '",
                          modality, "' is the name of the decoder's own loss; choose another");
      weights_[modality] = 1.0;
    }
    std::vector<std::string> known;
    for (const auto& [name, weight] : weights_) known.push_back(name);
    for (const auto& [name, weight] : recipe.train.loss_weights) {
      VEOMNI_CHECK_CONFIG(weights_.contains(name), recipe.file,
                          ": train.loss_weights: ", unknown_name_message("loss", name, known));
      weights_[name] = weight;
    }
  }

  LossValues counts(const data::Batch& batch) const override {
    LossValues counts = zeros();
    const auto* labels = batch.labels_T.const_data_ptr<int64_t>();
    for_each_sample(batch, [&](const std::string& loss, int32_t begin, int32_t end) {
      counts[loss] += static_cast<double>(std::count_if(
          labels + begin, labels + end, [](int64_t label) { return label != ops::kIgnoreLabel; }));
    });
    for (const auto& [modality, items] : batch.targets)
      counts[modality] += static_cast<double>(items.tokens_R.size(0));
    return counts;
  }

  Term forward(const data::Batch& batch, const LossValues& step_counts, int64_t) override {
    auto input = batch_input(batch);
    input.weights_T = text_weights(batch, step_counts);
    for (auto& [modality, items] : input.targets) {
      items.weights_R =
          torch::full({items.routes.tokens.size(0)},
                      weights_.at(modality) / step_counts.at(modality), torch::kDouble);
    }
    const auto losses = model_.losses(input);
    return {losses.total, values(batch, losses, step_counts)};
  }

  double total(const LossValues& values) const override {
    double sum = 0;
    for (const auto& [name, value] : values) sum += weights_.at(name) * value;
    return sum;
  }

  double flops(const data::Batch& batch) const override {
    auto& foundation = model_.foundation();
    double flops = foundation.weight_flops_per_token() * static_cast<double>(batch.num_tokens());
    for (size_t i = 1; i < batch.cu_seqlens.size(); ++i)
      flops += foundation.attention_flops(batch.cu_seqlens[i] - batch.cu_seqlens[i - 1]);
    flops *= foundation_passes_;
    for (const auto& [modality, items] : batch.inputs)
      flops += encoder_passes_.at(modality) * model_.encoder(modality).flops(items.grids);
    for (const auto& [modality, items] : batch.targets) {
      auto& decoder = model_.decoder(modality);
      for (const auto& grid : items.grids) {
        const auto cost = decoder.flops(grid);
        flops += cost.encode + head_passes_.at(modality) * cost.head_per_token *
                                   static_cast<double>(decoder.num_tokens(grid));
      }
    }
    return flops;
  }

 private:
  // Calls visit(loss of the sample's source, its first token, the one after its last).
  template <typename Visit> void for_each_sample(const data::Batch& batch, Visit visit) const {
    for (size_t i = 0; i + 1 < batch.cu_seqlens.size(); ++i) {
      visit(loss_of_source_[batch.source_of_sample[i]], batch.cu_seqlens[i],
            batch.cu_seqlens[i + 1]);
    }
  }

  LossValues zeros() const {
    LossValues zeros;
    for (const auto& [name, weight] : weights_) zeros[name] = 0;
    return zeros;
  }

  torch::Tensor text_weights(const data::Batch& batch, const LossValues& step_counts) const {
    auto weights_T = torch::zeros({batch.num_tokens()}, torch::kDouble);
    auto* weight = weights_T.data_ptr<double>();
    const auto* labels = batch.labels_T.const_data_ptr<int64_t>();
    for_each_sample(batch, [&](const std::string& loss, int32_t begin, int32_t end) {
      for (int32_t t = begin; t < end; ++t) {
        if (labels[t] != ops::kIgnoreLabel) weight[t] = weights_.at(loss) / step_counts.at(loss);
      }
    });
    return weights_T;
  }

  LossValues values(const data::Batch& batch, const model::Losses& losses,
                    const LossValues& step_counts) const {
    LossValues sums = zeros();
    const auto text_T = losses.text.token_T.to(torch::kCPU, torch::kDouble).contiguous();
    const auto* text = text_T.const_data_ptr<double>();
    for_each_sample(batch, [&](const std::string& loss, int32_t begin, int32_t end) {
      double& sum = sums[loss];
      for (int32_t t = begin; t < end; ++t) sum += text[t];
    });
    for (const auto& [modality, loss] : losses.targets)
      sums[modality] += loss.token_T.sum(torch::kDouble).item<double>();
    for (auto& [name, sum] : sums) {
      const double count = step_counts.at(name);
      sum = count > 0 ? sum / count : 0;
    }
    return sums;
  }

  model::OmniModel& model_;
  double foundation_passes_;
  std::map<std::string, double> encoder_passes_, head_passes_;  // by modality
  std::vector<std::string> loss_of_source_;
  std::map<std::string, double> weights_;
};

class TokenizerObjective final : public Objective {
 public:
  TokenizerObjective(const Recipe& recipe, model::OmniModel& model)
      : model_(model),
        modality_(model.decoders().begin()->first),
        autoencoder_steps_(recipe.train.codebook.autoencoder_steps) {
    VEOMNI_CHECK_CONFIG(model.decoders().size() == 1 && model.encoders().empty(), recipe.file,
                        ": without model.foundation exactly one decoder's tokenizer is trained; "
                        "add a foundation or leave the other parts out");
    VEOMNI_CHECK_CONFIG(recipe.train.loss_weights.empty(), recipe.file,
                        ": train.loss_weights: a tokenizer's terms are weighted in its config");
  }

  LossValues counts(const data::Batch& batch) const override {
    const auto items = batch.targets.find(modality_);
    return {{"items",
             items == batch.targets.end() ? 0.0 : static_cast<double>(items->second.grids.size())}};
  }

  Term forward(const data::Batch& batch, const LossValues& step_counts, int64_t step) override {
    const auto items = batch.targets.find(modality_);
    const double count = step_counts.at("items");
    Term term;
    const auto input =
        items == batch.targets.end() ? model::MediaInput{} : media_input(items->second);
    for (auto& [name, loss] : model_.tokenizer_losses(
             modality_, input, count > 0 ? 1.0 / count : 0.0, step >= autoencoder_steps_)) {
      term.values[name] = loss.item<double>();
      term.total = term.total.defined() ? term.total + loss : loss;
    }
    return term;
  }

  double total(const LossValues& values) const override {
    double sum = 0;
    for (const auto& [name, value] : values) sum += value;
    return sum;
  }

  double flops(const data::Batch& batch) const override {
    double flops = 0;
    for (const auto& [modality, items] : batch.targets) {
      for (const auto& grid : items.grids) {
        const auto cost = model_.decoder(modality).flops(grid);
        flops += 3.0 * (cost.encode + cost.decode);
      }
    }
    return flops;
  }

 private:
  model::OmniModel& model_;
  std::string modality_;
  int64_t autoencoder_steps_;
};

}  // namespace

std::unique_ptr<Objective> make_objective(const Recipe& recipe, model::OmniModel& model) {
  if (model.has_foundation()) return std::make_unique<TokenObjective>(recipe, model);
  return std::make_unique<TokenizerObjective>(recipe, model);
}

}  // namespace veomni::train
