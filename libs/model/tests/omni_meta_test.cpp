// SPDX-License-Identifier: Apache-2.0
// A model with encoders asks for the same bytes on meta as on the CPU, with and without items.
#include <gtest/gtest.h>

#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/allocation_count.h"

namespace veomni::model {
namespace {

constexpr const char* kFoundation =
    "{model_type: qwen2, vocab_size: 61, hidden_size: 32, intermediate_size: 48, "
    "num_hidden_layers: 2, "
    "num_attention_heads: 4, num_key_value_heads: 2, "
    "rope_scaling: {type: mrope, mrope_section: [1, 1, 2]}}";
// One as wide as the foundation, one that needs a projector.
constexpr const char* kVision =
    "{model_type: qwen2_vl_vision, depth: 2, embed_dim: 32, hidden_size: 32, num_heads: 2, "
    "patch_size: 4}";
constexpr const char* kAudio =
    "{model_type: qwen2_5_omni_audio_encoder, encoder_layers: 2, encoder_attention_heads: 2, "
    "encoder_ffn_dim: 48, d_model: 16, output_dim: 24, num_mel_bins: 8, n_window: 5}";

struct Items {
  std::vector<Grid> pictures, clips;
  int64_t text;
};

const std::vector<Items> kItems = {
    {{{1, 4, 6}, {1, 2, 2}}, {{23, 1, 1}, {1, 1, 1}, {8, 1, 1}}, 9},
    {{{2, 4, 4}}, {{20, 1, 1}}, 3},  // no chunk is padded
    {{}, {}, 5},
};

MediaInput media(Encoder& encoder, const std::vector<Grid>& grids, int64_t first_token,
                 const nn::ParamOptions& o) {
  int64_t rows = 0, tokens = 0;
  for (const Grid& grid : grids) {
    rows += grid[0] * grid[1] * grid[2];
    tokens += encoder.num_tokens(grid);
  }
  MediaInput input;
  input.features_PF =
      torch::zeros({rows, encoder.feature_width()}, torch::dtype(o.dtype).device(o.device));
  input.grids = grids;
  input.routes.tokens = torch::arange(first_token, first_token + tokens, torch::kLong);
  return input;
}

ModelInput model_input(OmniModel& model, const Items& items, const nn::ParamOptions& o) {
  ModelInput input;
  int64_t at = 1;
  for (const auto& [modality, grids] :
       {std::pair{"audio", items.clips}, {"image", items.pictures}}) {
    input.inputs[modality] = media(model.encoder(modality), grids, at, o);
    at += input.inputs[modality].routes.tokens.size(0);
  }
  const int64_t T = at + items.text;
  auto seq = std::make_shared<nn::SequenceInfo>();
  seq->cu_seqlens = {0, 1, static_cast<int32_t>(T)};
  seq->position_ids = torch::zeros({3, T}, torch::dtype(torch::kLong).device(o.device));
  input.seq = seq;
  input.ids_T = torch::zeros({T}, torch::dtype(torch::kLong).device(o.device));
  input.labels_T = torch::ones({T}, torch::kLong);
  input.weights_T = torch::full({T}, 1.0 / static_cast<double>(T), torch::kDouble);
  return input;
}

ops::AllocationStats count(const Items& items, const nn::ParamOptions& o) {
  ModelOptions options;
  options.foundation.config = YAML::Load(kFoundation);
  options.encoders["image"].config = YAML::Load(kVision);
  options.encoders["audio"].config = YAML::Load(kAudio);
  ops::AllocationCounter counter;
  auto model = build_model(options, o);
  if (o.device.is_cpu()) nn::initialize(*model, 1);
  const auto input = model_input(*model, items, o);
  counter.reset();
  model->losses(input).total.backward();
  for (const auto& [name, parameter] : model->named_parameters())
    EXPECT_TRUE(parameter.grad().defined()) << name;
  return counter.stats(o.device.type());
}

TEST(OmniMeta, ForwardAndBackwardAskForTheBytesOfTheCpu) {
  for (const Items& items : kItems) {
    for (auto dtype : {torch::kFloat, torch::kBFloat16, torch::kDouble}) {
      SCOPED_TRACE(torch::toString(dtype));
      const auto meta = count(items, {torch::kMeta, dtype}),
                 cpu = count(items, {torch::kCPU, dtype});
      EXPECT_GT(meta.total_bytes, 0);
      EXPECT_EQ(meta.total_bytes, cpu.total_bytes);
      EXPECT_EQ(meta.peak_bytes, cpu.peak_bytes);
      EXPECT_EQ(meta.live_bytes, cpu.live_bytes);
    }
  }
}

}  // namespace
}  // namespace veomni::model
