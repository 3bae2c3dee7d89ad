// SPDX-License-Identifier: Apache-2.0
// Memory known before launch: a model's forward and backward on meta ask for the same bytes as on the CPU.
#include <gtest/gtest.h>

#include "veomni/base/timer.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/allocation_count.h"

namespace veomni::model {
namespace {

struct Size {
  int64_t vocab, width, inner, layers, heads, kv_heads, head_dim;
  bool tied;
  std::vector<int64_t> lengths;
};

ModelOptions options_of(const Size& s) {
  ModelOptions options;
  auto& c = options.foundation.config;
  c["model_type"] = "qwen3";
  c["vocab_size"] = s.vocab;
  c["hidden_size"] = s.width;
  c["intermediate_size"] = s.inner;
  c["num_hidden_layers"] = s.layers;
  c["num_attention_heads"] = s.heads;
  c["num_key_value_heads"] = s.kv_heads;
  c["head_dim"] = s.head_dim;
  c["tie_word_embeddings"] = s.tied;
  return options;
}

struct Counted {
  ops::AllocationStats ours, aten;
};

// Parameters, forward and backward of one micro-batch, all counted.
Counted count(const Size& size, torch::Device device, torch::ScalarType dtype) {
  ops::AllocationCounter counter;
  auto model = build_model(options_of(size), {device, dtype});
  if (device.is_cpu()) nn::initialize(*model, 1);
  auto seq = nn::make_sequence(size.lengths, device);
  const int64_t T = seq->num_tokens();
  const auto ids = torch::zeros({T}, torch::dtype(torch::kLong).device(device));
  const auto labels = torch::ones({T}, torch::dtype(torch::kLong));
  const auto weights = torch::full({T}, 1.0 / static_cast<double>(T), torch::kDouble);
  const ModelInput input{.ids_T = ids, .labels_T = labels, .weights_T = weights, .seq = seq};
  counter.reset();
  model->losses(input).total.backward();
  return {counter.stats(device.type()), counter.aten_stats(device.type())};
}

const std::vector<Size> kSizes = {
    {61, 32, 48, 2, 4, 2, 8, true, {5, 11, 1}},
    {257, 64, 96, 3, 4, 4, 16, false, {33}},
    {1000, 96, 256, 1, 6, 2, 32, true, {64, 7, 40}},
};

TEST(Meta, ForwardAndBackwardAskForTheBytesOfTheCpu) {
  for (const auto& size : kSizes) {
    for (auto dtype : {torch::kFloat, torch::kBFloat16, torch::kDouble}) {
      const auto meta = count(size, torch::kMeta, dtype), cpu = count(size, torch::kCPU, dtype);
      EXPECT_GT(meta.ours.total_bytes, 0);
      EXPECT_EQ(meta.ours.total_bytes, cpu.ours.total_bytes) << size.width << " " << dtype;
      EXPECT_EQ(meta.ours.peak_bytes, cpu.ours.peak_bytes) << size.width << " " << dtype;
      EXPECT_EQ(meta.ours.live_bytes, cpu.ours.live_bytes) << size.width << " " << dtype;
      std::printf(
          "width %4ld %-8s: %9ld bytes in all, peak %9ld, on meta and CPU; ATen's CPU kernels for "
          "themselves %9ld\n",
          size.width, torch::toString(dtype), meta.ours.total_bytes, meta.ours.peak_bytes,
          cpu.aten.total_bytes);
    }
  }
}

// The shape of Qwen2.5-72B with Qwen3's q/k norm. Five seconds are the promise; the build itself takes a fraction.
TEST(Meta, A72BModelBuildsAndRuns) {
  const Size size{151936, 8192, 29568, 80, 64, 8, 128, false, {4096, 4096}};
  Timer timer;
  auto model = build_model(options_of(size), {torch::kMeta, torch::kBFloat16});
  EXPECT_LE(timer.elapsed_ms(), 5000);
  int64_t parameters = 0;
  for (const auto& [name, parameter] : model->named_parameters()) parameters += parameter.numel();
  EXPECT_GT(parameters, 72'000'000'000);
  const auto counted = count(size, torch::kMeta, torch::kBFloat16);
  // Every weight gradient is fp32 and lives on; the loss's graph is gone.
  EXPECT_GE(counted.ours.live_bytes, 4 * parameters);
}

}  // namespace
}  // namespace veomni::model
