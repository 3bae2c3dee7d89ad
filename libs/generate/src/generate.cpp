// SPDX-License-Identifier: Apache-2.0
#include "veomni/generate/generate.h"

#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/base/rng.h"
#include "veomni/generate/kv_cache.h"

namespace veomni::generate {

namespace {

// The sequences that still run, and their next input tokens.
struct Live {
  std::vector<int64_t> index;                // into the caller's prompts
  std::vector<std::vector<int32_t>> tokens;  // the prompt, then one token a step
  std::vector<int64_t> position;             // of tokens[i][0]
};

struct PackedInput {
  model::ModelInput input;
  torch::Tensor last_R;  // the row of each sequence's last token
};

PackedInput pack(const Live& live, torch::Device device) {
  auto info = std::make_shared<nn::SequenceInfo>();
  int64_t total = 0;
  for (const auto& tokens : live.tokens)
    info->cu_seqlens.push_back(static_cast<int32_t>(total += tokens.size()));
  auto ids = torch::empty({total}, torch::kLong), positions = torch::empty({total}, torch::kLong);
  auto last = torch::empty({static_cast<int64_t>(live.tokens.size())}, torch::kLong);
  int64_t row = 0;
  for (size_t i = 0; i < live.tokens.size(); ++i) {
    for (size_t j = 0; j < live.tokens[i].size(); ++j, ++row) {
      ids.data_ptr<int64_t>()[row] = live.tokens[i][j];
      positions.data_ptr<int64_t>()[row] = live.position[i] + static_cast<int64_t>(j);
    }
    last.data_ptr<int64_t>()[i] = row - 1;
  }
  info->position_ids = positions.to(device);
  return {{ids.to(device), {}, info}, last.to(device)};
}

// Draws a token for every live sequence; returns which of them go on.
std::vector<int64_t> draw(const torch::Tensor& logits_RV, const GenerateOptions& options,
                          Live& live, std::vector<std::vector<int32_t>>& results) {
  const auto logits = logits_RV.to(torch::kCPU, torch::kFloat).contiguous();
  const size_t vocab = logits.size(1);
  std::vector<int64_t> going;
  Live next;
  for (size_t i = 0; i < live.index.size(); ++i) {
    auto& result = results[live.index[i]];
    const KeyedRng rng(options.sampling.seed, "sample", live.index[i], result.size());
    const int32_t token = sample_token({logits.data_ptr<float>() + i * vocab, vocab},
                                       options.sampling, rng.uniform_at(0));
    if (std::count(options.stop_ids.begin(), options.stop_ids.end(), token)) continue;
    result.push_back(token);
    if (static_cast<int64_t>(result.size()) == options.max_new_tokens) continue;
    going.push_back(i);
    next.index.push_back(live.index[i]);
    next.position.push_back(live.position[i] + static_cast<int64_t>(live.tokens[i].size()));
    next.tokens.push_back({token});
  }
  live = std::move(next);
  return going;
}

}  // namespace

std::vector<std::vector<int32_t>> generate(model::OmniModel& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options) {
  torch::NoGradGuard no_grad;
  std::vector<std::vector<int32_t>> results(prompts.size());
  Live live;
  for (size_t i = 0; i < prompts.size(); ++i) {
    VEOMNI_CHECK_CONFIG(!prompts[i].empty(), "prompt ", i, " has no tokens; give it some text");
    live.index.push_back(i);
    live.tokens.push_back(prompts[i]);
    live.position.push_back(0);
  }
  const auto device = model.named_parameters().front().second.value().device();
  KvCacheScope caches(model);
  while (!live.index.empty()) {
    auto packed = pack(live, device);
    const auto going = draw(model.logits(packed.input, packed.last_R), options, live, results);
    caches.keep(going);
  }
  return results;
}

}  // namespace veomni::generate
