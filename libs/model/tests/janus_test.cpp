// SPDX-License-Identifier: Apache-2.0
// Janus's picture tokenizer and head: what its losses and gradients are, no pictures, meta, configs.
// Its numbers are compared with transformers in tests/parity.
#include <gmock/gmock.h>

#include <cmath>

#include "janus_fixture.h"
#include "refusal.h"
#include "veomni/base/error.h"
#include "veomni/model/registration.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/allocation_count.h"
#include "veomni/ops/compare.h"

namespace veomni::model {
namespace {

using Losses = std::map<std::string, torch::Tensor>;

constexpr int64_t kWidth = 24;
const Grid kGrid = {3, 8, 12};

torch::Tensor features(int64_t pictures, const Grid& grid = kGrid) {
  const int64_t rows = pictures * grid[1] * grid[2];
  return torch::arange(rows * 3, torch::kDouble).mul(0.37).sin().view({rows, 3});
}

torch::Tensor sum_of(const Losses& losses) {
  torch::Tensor sum;
  for (const auto& [name, loss] : losses) sum = sum.defined() ? sum + loss : loss;
  return sum;
}

std::map<std::string, torch::Tensor> gradients(Decoder& decoder) {
  std::map<std::string, torch::Tensor> all;
  for (auto& [name, parameter] : decoder.named_parameters()) {
    if (parameter.grad().defined()) all[name] = parameter.grad().clone();
    parameter.clear_grad();
  }
  return all;
}

bool has_gradient(const std::map<std::string, torch::Tensor>& all, const std::string& name) {
  const auto found = all.find(name);
  return found != all.end() && found->second.any().item<bool>();
}

TEST(Janus, CodesStandForSquaresOfPixels) {
  const auto decoder = filled();
  EXPECT_EQ(decoder->num_tokens(kGrid), 24);
  EXPECT_EQ(decoder->default_grid(), (Grid{3, 8, 8}));
  EXPECT_EQ(decoder->feature_width(), 3);
  EXPECT_EQ(decoder->num_codes(), 19);
  const auto codes_R = decoder->encode(features(2), {kGrid, kGrid});
  EXPECT_EQ(codes_R.sizes(), (std::vector<int64_t>{48}));
  EXPECT_EQ(codes_R.scalar_type(), torch::kLong);
  EXPECT_FALSE(decoder->latents(features(2), {kGrid, kGrid}).requires_grad());
  EXPECT_EQ(decoder->latents(features(2), {kGrid, kGrid}).sizes(), (std::vector<int64_t>{48, 6}));
}

TEST(Janus, CodesAreNearestToTheLatents) {
  const auto decoder = filled();
  const std::vector<Grid> grids = {kGrid};
  const auto z_RE = decoder->latents(features(1), grids);
  const auto distance_RC =
      (z_RE.unsqueeze(1) - decoder->codebook().value().detach().unsqueeze(0)).square().sum(2);
  EXPECT_TRUE(torch::equal(decoder->encode(features(1), grids), distance_RC.argmin(1)));
}

TEST(Janus, PicturesDoNotSeeEachOther) {
  const auto decoder = filled();
  const auto both = decoder->reconstruct(features(2), {kGrid, kGrid});
  std::vector<torch::Tensor> alone;
  for (const auto& one : features(2).chunk(2)) alone.push_back(decoder->reconstruct(one, {kGrid}));
  EXPECT_LE(ops::relative_error(both, torch::cat(alone)), 1e-12);
}

TEST(Janus, WhatItRebuildsIsDrawnFromItsCodes) {
  const auto decoder = filled();
  const std::vector<Grid> grids = {kGrid, kGrid};
  const auto drawn = decoder->lm_generate(decoder->encode(features(2), grids), grids);
  EXPECT_FALSE(drawn.requires_grad());
  EXPECT_LE(ops::relative_error(decoder->reconstruct(features(2), grids), drawn), 1e-14);
}

// Codes lie on the latents, so that the latents' own gradient (as of an autoencoder) is the straight-through one.
TEST(Janus, TheGradientOfTheDrawnLatentsIsTheLatents) {
  const auto decoder = filled(small_config({{"num_embeddings", 24}}));
  const std::vector<Grid> grids = {kGrid};
  decoder->codebook().assign_local(decoder->latents(features(1), grids));
  EXPECT_TRUE(torch::equal(decoder->encode(features(1), grids), torch::arange(24)));
  const auto through = decoder->tokenizer_losses(features(1), grids, 1, true);
  const auto plain = decoder->tokenizer_losses(features(1), grids, 1, false);
  through.at("reconstruction").backward();
  const auto got = gradients(*decoder);
  plain.at("reconstruction").backward();
  const auto want = gradients(*decoder);
  EXPECT_TRUE(has_gradient(want, "encoder.conv_in.weight"));
  for (const auto& [name, gradient] : want) {
    if (name == "quantize.embedding.weight") continue;
    EXPECT_LE(ops::relative_error(got.at(name), gradient), 1e-12) << name;
  }
  EXPECT_FALSE(has_gradient(got, "quantize.embedding.weight"));
}

TEST(Janus, ReconstructReachesEveryParameter) {
  const auto decoder = filled();
  decoder->reconstruct(features(1), {kGrid}).square().sum().backward();
  const auto got = gradients(*decoder);
  for (const auto& [name, parameter] : decoder->named_parameters()) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_EQ(has_gradient(got, name), name != "quantize.embedding.weight") << name;
  }
}

class JanusLosses : public testing::TestWithParam<std::string> {};

TEST_P(JanusLosses, AreMeansOverAPicturesElements) {
  const auto decoder = filled(small_config({{"veomni_reconstruction", GetParam()}, {"beta", 0.7}}));
  const std::vector<Grid> grids = {kGrid, kGrid};
  const auto x = features(2);
  const auto losses = decoder->tokenizer_losses(x, grids, 0.5, true);
  const auto difference = decoder->reconstruct(x, grids).detach() - x;
  const auto z_RE = decoder->latents(x, grids);
  const auto e_RE = decoder->codebook().value().detach().index_select(0, decoder->encode(x, grids));
  const auto distance = (z_RE - e_RE).square().mean();
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_LE(ops::relative_error(
                losses.at("reconstruction").detach(),
                GetParam() == "l1" ? difference.abs().mean() : difference.square().mean()),
            1e-12);
  EXPECT_LE(ops::relative_error(losses.at("commitment").detach(), distance), 1e-12);
  EXPECT_LE(ops::relative_error(losses.at("codebook").detach(), 0.7 * distance), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Kinds, JanusLosses, testing::Values("mse", "l1"));

TEST(Janus, CommitmentMovesLatentsAndCodebookMovesCodes) {
  const auto decoder = filled();
  const auto losses = decoder->tokenizer_losses(features(1), {kGrid}, 1, true);
  losses.at("commitment").backward();
  const auto commitment = gradients(*decoder);
  EXPECT_TRUE(has_gradient(commitment, "encoder.conv_in.weight"));
  EXPECT_FALSE(has_gradient(commitment, "quantize.embedding.weight"));
  losses.at("codebook").backward();
  const auto codebook = gradients(*decoder);
  EXPECT_FALSE(has_gradient(codebook, "encoder.conv_in.weight"));
  EXPECT_TRUE(has_gradient(codebook, "quantize.embedding.weight"));
}

TEST(Janus, LossesOfPicturesAdd) {
  const auto decoder = filled();
  const auto both = decoder->tokenizer_losses(features(2), {kGrid, kGrid}, 0.3, true);
  Losses sums;
  for (const auto& one : features(2).chunk(2)) {
    for (const auto& [name, loss] : decoder->tokenizer_losses(one, {kGrid}, 0.3, true))
      sums[name] = sums[name].defined() ? sums[name] + loss : loss;
  }
  for (const auto& [name, loss] : both)
    EXPECT_LE(ops::relative_error(loss.detach(), sums.at(name).detach()), 1e-12) << name;
}

TEST(Janus, WithoutQuantisationItIsAnAutoencoder) {
  const auto decoder = filled();
  const auto losses = decoder->tokenizer_losses(features(1), {kGrid}, 1, false);
  EXPECT_EQ(losses.at("commitment").item<double>(), 0);
  EXPECT_EQ(losses.at("codebook").item<double>(), 0);
  // Another codebook changes nothing.
  decoder->codebook().assign_local(torch::ones({19, 6}, torch::kDouble));
  EXPECT_TRUE(
      torch::equal(losses.at("reconstruction"),
                   decoder->tokenizer_losses(features(1), {kGrid}, 1, false).at("reconstruction")));
  sum_of(losses).backward();
  const auto got = gradients(*decoder);
  for (const auto& [name, parameter] : decoder->named_parameters()) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_EQ(has_gradient(got, name), name != "quantize.embedding.weight") << name;
  }
}

TEST(Janus, BothPlayersLearnInOneBackward) {
  const double weight = 0.25;
  const auto decoder = filled(small_config({{"veomni_adversarial_weight", weight}}));
  const auto losses = decoder->tokenizer_losses(features(2), {kGrid, kGrid}, 0.5, true);
  ASSERT_EQ(losses.size(), 5u);
  losses.at("adversarial").backward();
  const auto generator = gradients(*decoder);
  EXPECT_TRUE(has_gradient(generator, "decoder.conv_out.weight"));
  EXPECT_TRUE(has_gradient(generator, "encoder.conv_in.weight"));
  losses.at("discriminator").backward();
  const auto judge = gradients(*decoder);
  int64_t own = 0;
  for (const auto& [name, parameter] : decoder->named_parameters()) {
    const bool of_judge = name.starts_with("discriminator.");
    own += of_judge;
    if (of_judge) {
      EXPECT_FALSE(has_gradient(generator, name)) << name;
    }
    EXPECT_EQ(has_gradient(judge, name), of_judge) << name;
    EXPECT_TRUE(decoder->is_tokenizer(name)) << name;
  }
  EXPECT_GT(own, 0);
  // A judge that says 0 of everything: each hinge is 1, their halves' sum too.
  for (auto& [name, parameter] : decoder->named_parameters()) {
    if (name.starts_with("discriminator.conv_out"))
      parameter.assign_local(torch::zeros(parameter.shape(), torch::kDouble));
  }
  const auto even = decoder->tokenizer_losses(features(2), {kGrid, kGrid}, 0.5, true);
  EXPECT_NEAR(even.at("discriminator").item<double>(), 1, 1e-12);
  EXPECT_EQ(even.at("adversarial").item<double>(), 0);
}

TEST(Janus, NoPictureKeepsEveryParameterInTheGraph) {
  const auto config = small_config({{"veomni_adversarial_weight", 0.1}});
  for (auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const auto decoder = filled(config, kWidth, dtype);
    const auto none = torch::empty({0, 3}, torch::dtype(dtype));
    EXPECT_EQ(decoder->encode(none, {}).size(0), 0);
    EXPECT_EQ(decoder->lm_generate(torch::empty({0}, torch::kLong), {}).sizes(),
              (std::vector<int64_t>{0, 3}));
    EXPECT_EQ(decoder->latents(none, {}).sizes(), (std::vector<int64_t>{0, 6}));
    const auto encoded = decoder->lm_encode(none, {});
    EXPECT_EQ(encoded.embeds_RD.sizes(), (std::vector<int64_t>{0, kWidth}));
    const auto loss = decoder->lm_loss(torch::empty({0, kWidth}, torch::dtype(dtype)),
                                       encoded.codes_R, torch::empty({0}));
    for (bool quantize : {true, false}) {
      auto total = encoded.embeds_RD.sum().to(torch::kFloat) + loss.total +
                   decoder->reconstruct(none, {}).sum().to(torch::kFloat);
      if (!quantize) total = torch::zeros({});
      total = total + sum_of(decoder->tokenizer_losses(none, {}, 0, quantize));
      EXPECT_EQ(total.item<double>(), 0);
      total.backward();
      const auto got = gradients(*decoder);
      for (const auto& [name, parameter] : decoder->named_parameters()) {
        if (!quantize && !decoder->is_tokenizer(name)) continue;
        ASSERT_TRUE(got.contains(name)) << name;
        EXPECT_FALSE(has_gradient(got, name)) << name;
      }
    }
  }
}

TEST(Janus, TheHeadClassifiesCodes) {
  const auto decoder = filled(small_config(), kWidth);
  EXPECT_EQ(decoder->lm_width(), kWidth);
  const auto hidden = torch::arange(5 * kWidth, torch::kDouble).mul(0.7).cos().view({5, kWidth});
  const auto codes = torch::tensor({3, 0, 18, 7, 7}, torch::kLong);
  const auto weights = torch::tensor({0.1, 0.2, 0.3, 0.4, 0.5}, torch::kDouble);
  const auto logits = decoder->lm_head(hidden);
  ASSERT_EQ(logits.sizes(), (std::vector<int64_t>{5, 19}));
  const auto each = -torch::log_softmax(logits, 1).gather(1, codes.unsqueeze(1)).squeeze(1);
  const auto loss = decoder->lm_loss(hidden, codes, weights);
  EXPECT_LE(ops::relative_error(loss.total.detach(), (each * weights).sum().detach()), 1e-12);
  EXPECT_LE(ops::relative_error(loss.token_T, each.detach()), 1e-12);
  EXPECT_FALSE(loss.token_T.requires_grad());
  EXPECT_EQ(decoder->lm_embed(codes).sizes(), (std::vector<int64_t>{5, kWidth}));
  (loss.total + decoder->lm_embed(codes).square().sum()).backward();
  const auto got = gradients(*decoder);
  for (const auto& [name, parameter] : decoder->named_parameters())
    EXPECT_EQ(has_gradient(got, name), !decoder->is_tokenizer(name)) << name;
}

// As transformers' JanusVQVAEHead and JanusVQVAEAlignerMLP are written.
TEST(Janus, HeadAndAlignerAreLinearMapsWithGeluBetween) {
  const auto decoder = filled(small_config({{"num_hidden_layers", 3}}), kWidth);
  std::map<std::string, torch::Tensor> p;
  for (const auto& [name, parameter] : decoder->named_parameters()) {
    nn::Parameter handle = parameter;
    if (name.ends_with("bias")) handle.assign_local(torch::linspace(-1, 1, handle.numel()));
    p[name] = parameter.value().detach();
  }
  const auto linear = [&](const std::string& name, const torch::Tensor& x) {
    return x.matmul(p.at("generation." + name + ".weight").t()) +
           p.at("generation." + name + ".bias");
  };
  const auto gelu = [](const torch::Tensor& x) { return x * (1 + (x / std::sqrt(2.0)).erf()) / 2; };
  const auto hidden = torch::arange(2 * kWidth, torch::kDouble).mul(0.7).cos().view({2, kWidth});
  EXPECT_LE(ops::relative_error(decoder->lm_head(hidden).detach(),
                                linear("head.vision_head", gelu(linear("head.proj_out", hidden)))),
            1e-12);
  const auto codes = torch::tensor({5, 0, 18}, torch::kLong);
  auto x = linear("aligner.fc1", p.at("generation.embeddings.weight").index_select(0, codes));
  x = linear("aligner.hidden_layers.0", gelu(x));
  x = linear("aligner.hidden_layers.1", gelu(x));
  EXPECT_LE(ops::relative_error(decoder->lm_embed(codes).detach(), x), 1e-12);
}

TEST(Janus, PartsAreToldApartByName) {
  const auto decoder = filled(small_config(), kWidth);
  std::vector<std::string> head, embeddings;
  for (const auto& [name, parameter] : decoder->named_parameters()) {
    if (!decoder->is_tokenizer(name)) head.push_back(name);
    if (decoder->is_code_embedding(name)) embeddings.push_back(name);
  }
  EXPECT_EQ(head.size(), 1u + 4 + 4);
  EXPECT_EQ(embeddings, std::vector<std::string>{"generation.embeddings.weight"});
  const auto tokenizer = filled();
  for (const auto& [name, parameter] : tokenizer->named_parameters())
    EXPECT_TRUE(tokenizer->is_tokenizer(name)) << name;
}

TEST(Janus, WithoutAHeadItSaysSo) {
  const auto decoder = filled();
  EXPECT_EQ(decoder->lm_width(), 0);
  EXPECT_THROW(decoder->lm_embed(torch::zeros({1}, torch::kLong)), Error);
}

TEST(Janus, FilesHaveTransformersNamesAndShapes) {
  const auto decoder = filled(small_config(), kWidth);
  std::map<std::string, std::vector<int64_t>> files;
  for (const auto& parts : decoder->rules().resolve_all(nn::param_shapes(*decoder))) {
    ASSERT_EQ(parts.parts.size(), 1u) << parts.param;
    files[parts.parts[0].tensor] = parts.parts[0].shape;
  }
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(files.at("quantize.embedding.weight"), (Shape{19, 6}));
  EXPECT_EQ(files.at("quant_conv.weight"), (Shape{6, 12, 1, 1}));
  EXPECT_EQ(files.at("encoder.down.1.block.0.nin_shortcut.weight"), (Shape{64, 32, 1, 1}));
  EXPECT_EQ(files.at("encoder.down.0.downsample.conv.weight"), (Shape{32, 32, 3, 3}));
  EXPECT_EQ(files.at("decoder.up.0.attn.1.q.weight"), (Shape{64, 64, 1, 1}));
  EXPECT_EQ(files.at("generation_embeddings.weight"), (Shape{19, 6}));
  EXPECT_EQ(files.at("generation_aligner.hidden_layers.0.weight"), (Shape{kWidth, kWidth}));
  EXPECT_EQ(files.at("generation_head.vision_head.weight"), (Shape{19, kWidth}));
}

TEST(Janus, ASavedPartIsFoundAgain) {
  const auto decoder = filled(small_config(), kWidth);
  json config = decoder->config();
  EXPECT_EQ(config.at("projection_dim"), kWidth);
  EXPECT_EQ(config.at("image_token_embed_dim"), kWidth);
  ASSERT_TRUE(look_for_part("decoder", "image", "", config));
  config.erase("architectures");
  ASSERT_TRUE(look_for_part("decoder", "image", "", config));
}

TEST(Janus, AWholeModelsDirectoryHoldsOne) {
  const json whole = {{"architectures", {"JanusForConditionalGeneration"}},
                      {"model_type", "janus"},
                      {"vq_config", small_config({{"architectures", nullptr}})}};
  const auto part = look_for_part("decoder", "image", "", whole);
  ASSERT_TRUE(part && part->within);
  EXPECT_EQ(part->config.at("embed_dim"), 6);
  for (int64_t width : {int64_t{0}, kWidth}) {
    const auto decoder = make_decoder(*part, "config.json", width, {torch::kMeta, torch::kFloat});
    const auto rules = decoder->rules().under(part->within->leads.front());
    for (const auto& parts : rules.resolve_all(nn::param_shapes(*decoder))) {
      const auto& file = parts.parts[0].tensor;
      EXPECT_TRUE(file.starts_with("model.vqmodel.") || file.starts_with("model.generation_"))
          << file;
    }
    EXPECT_EQ(rules.ignores("model.generation_head.proj_out.weight"), width == 0);
    EXPECT_FALSE(rules.ignores("model.vqmodel.encoder.conv_in.weight"));
    EXPECT_TRUE(rules.ignores("model.language_model.norm.weight"));
  }
}

TEST(Janus, FlopsGrowWithThePicture) {
  const auto tokenizer = filled(), decoder = filled(small_config(), kWidth);
  const auto small = decoder->flops({3, 8, 8}), large = decoder->flops({3, 16, 16});
  EXPECT_GT(large.encode, 4 * small.encode);  // attention grows faster than pixels
  EXPECT_GT(large.decode, 4 * small.decode);
  EXPECT_LT(large.encode, 16 * small.encode);
  EXPECT_EQ(tokenizer->flops(kGrid).head_per_token, 0);
  // Aligner 6 -> 24 -> 24, head 24 -> 24 -> 19.
  EXPECT_EQ(decoder->flops(kGrid).head_per_token, 2 * (6 * 24 + 24 * 24 + 24 * 24 + 24 * 19));
}

struct Counted {
  ops::AllocationStats tokenizer, head;
};

Counted count(int64_t pictures, bool quantize, double adversarial, const nn::ParamOptions& o) {
  ops::AllocationCounter counter;
  auto decoder = make(small_config({{"veomni_adversarial_weight", adversarial}}), kWidth, o);
  if (o.device.is_cpu()) nn::initialize(*decoder, 1);
  const auto like = torch::dtype(o.dtype).device(o.device);
  const std::vector<Grid> grids(pictures, kGrid);
  const auto x_PF = torch::ones({pictures * kGrid[1] * kGrid[2], 3}, like);
  const auto weights_R = torch::ones({pictures * decoder->num_tokens(kGrid)});
  Counted counted;
  counter.reset();
  for (const auto& [name, loss] : decoder->tokenizer_losses(x_PF, grids, 1, quantize))
    loss.backward({}, true);
  decoder->reconstruct(x_PF, grids).sum().backward();
  decoder->lm_generate(decoder->encode(x_PF, grids), grids);
  counted.tokenizer = counter.stats(o.device.type());
  counter.reset();
  const auto encoded = decoder->lm_encode(x_PF, grids);
  decoder->lm_loss(encoded.embeds_RD, encoded.codes_R, weights_R).total.backward();
  counted.head = counter.stats(o.device.type());
  return counted;
}

TEST(Janus, ForwardAndBackwardAskForTheBytesOfTheCpu) {
  struct Call {
    int64_t pictures;
    bool quantize;
    double adversarial;
  };
  for (const Call& call :
       {Call{2, true, 0}, {2, true, 0.5}, {1, false, 0}, {0, true, 0.5}, {0, false, 0}}) {
    for (auto dtype : {torch::kFloat, torch::kBFloat16, torch::kDouble}) {
      SCOPED_TRACE(testing::Message() << call.pictures << " pictures, quantize " << call.quantize
                                      << ", adversarial " << call.adversarial << ", " << dtype);
      const auto on = [&](torch::Device device) {
        return count(call.pictures, call.quantize, call.adversarial, {device, dtype});
      };
      const auto meta = on(torch::kMeta), cpu = on(torch::kCPU);
      for (auto stats : {&Counted::tokenizer, &Counted::head}) {
        EXPECT_GT((meta.*stats).total_bytes, 0);
        EXPECT_EQ((meta.*stats).total_bytes, (cpu.*stats).total_bytes);
        EXPECT_EQ((meta.*stats).peak_bytes, (cpu.*stats).peak_bytes);
        EXPECT_EQ((meta.*stats).live_bytes, (cpu.*stats).live_bytes);
      }
    }
  }
}

TEST(Janus, WhatDoesNotFitIsNamedWithTheFile) {
  const std::vector<std::pair<json, std::string>> refused = {
      {{{"base_channels", 48}}, "base_channels=48 is not a multiple of 32"},
      {{{"base_channels", 0}}, "base_channels must be more than 0"},
      {{{"channel_multiplier", json::array()}}, "channel_multiplier"},
      {{{"channel_multiplier", {1, 0}}}, "channel_multiplier"},
      {{{"channel_multiplier", {1, "2"}}}, "channel_multiplier"},
      {{{"num_res_blocks", 0}}, "num_res_blocks"},
      {{{"embed_dim", "wide"}}, "embed_dim"},
      {{{"in_channels", 1}}, "in_channels=1"},
      {{{"double_latent", true}}, "double_latent"},
      {{{"dropout", 0.1}}, "dropout=0.1"},
      {{{"hidden_act", "relu"}}, "'relu'"},
      {{{"veomni_reconstruction", "huber"}}, "'huber'"},
      {{{"veomni_adversarial_weight", -1}}, "veomni_adversarial_weight"},
      {{{"veomni_perceptual_weight", 0.1}}, "veomni_perceptual_weight"},
  };
  for (const auto& [change, expected] : refused) {
    EXPECT_THAT(refusal([&] {
                  make(small_config(change), 0, {torch::kMeta, torch::kFloat});
                }),
                testing::AllOf(testing::HasSubstr("config.json"), testing::HasSubstr(expected)))
        << change;
  }
}

TEST(Janus, PicturesThatDoNotFitAreRefused) {
  const auto decoder = filled();
  EXPECT_THROW(decoder->encode(features(1, {3, 8, 7}), {{3, 8, 7}}), ConfigError);
  EXPECT_THROW(decoder->encode(features(2), {kGrid, {3, 12, 8}}), ConfigError);
  EXPECT_THROW(decoder->encode(features(1), {{1, 8, 12}}), ConfigError);
  EXPECT_THROW(decoder->encode(features(2), {kGrid}), Error);
  EXPECT_THROW(decoder->lm_generate(torch::zeros({23}, torch::kLong), {kGrid}), Error);
}

}  // namespace
}  // namespace veomni::model
