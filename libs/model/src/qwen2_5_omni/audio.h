// SPDX-License-Identifier: Apache-2.0
/// Qwen2.5-Omni's audio encoder (arXiv 2503.20215, section 2.2): Whisper's encoder on chunks of 2 · n_window frames, each
/// by itself (two convolutions, the second with stride 2; sinusoidal positions; attention within the chunk), then the
/// mean of every two rows of a clip.
#pragma once

#include <memory>

#include "veomni/model/encoder.h"
#include "veomni/nn/attention_core.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/unit.h"

namespace veomni::model {

/// What the architecture needs of config.json.
struct Qwen2_5OmniAudioConfig {
  int64_t num_layers, num_heads, width, mlp_dim, num_mel_bins, n_window, output_size;
  double initializer_range;
  nlohmann::json source;  ///< the whole config.json

  int64_t head_dim() const { return width / num_heads; }
  int64_t chunk_frames() const { return 2 * n_window; }
  static Qwen2_5OmniAudioConfig from_json(const nlohmann::json& config, const std::string& where);
};

// P frames of all clips  F mel bins  N chunks  L frames of the longest chunk  T rows after the convolutions  D width
// H heads  K head dim  R tokens  O the foundation's width

/// How the frames of all clips lie in chunks; host facts alone.
struct AudioChunks {
  int64_t num_chunks = 0, longest = 0;  ///< N, L
  bool padded = false;                  ///< whether any chunk is shorter than L
  std::vector<int64_t> frame_rows;      ///< [P]: where each frame lies among the N·L
  std::vector<int64_t> conv_rows;       ///< [T]: which of the N·⌈L/2⌉ rows are real
  std::vector<int64_t> positions;       ///< [T]: a row's place in its chunk
  std::vector<int32_t> cu_seqlens{0};   ///< of the T rows, by chunk
  std::vector<int64_t> pooled_rows;     ///< [2R]: the rows that are averaged in twos
};

/// A convolution over time, along the rows of each chunk.
class AudioConv : public nn::Module {
 public:
  AudioConv(int64_t in, int64_t out, int64_t stride, nn::Init init,
            const nn::ParamOptions& options);
  /// [N, L, in] -> [N, ⌈L / stride⌉, out].
  torch::Tensor forward(const torch::Tensor& x_NLC) const;

 private:
  int64_t stride_;
  nn::Parameter weight_, bias_;
};

class AudioStem : public nn::Unit {
 public:
  AudioStem(const Qwen2_5OmniAudioConfig& config, const nn::ParamOptions& options);
  /// Frames [P, F] -> [T, D].
  torch::Tensor forward(const torch::Tensor& x_PF, std::shared_ptr<const AudioChunks> chunks);

 private:
  AudioConv conv1_, conv2_;
};

class AudioLayer : public nn::Unit {
 public:
  AudioLayer(const Qwen2_5OmniAudioConfig& config, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_TD, const nn::Sequence& seq);

 private:
  torch::Tensor attend(const torch::Tensor& x_TD, const nn::Sequence& seq);

  int64_t heads_, head_dim_;
  nn::AttentionSpec spec_;
  nn::LayerNorm attention_norm_, mlp_norm_;
  nn::Linear q_proj_, k_proj_, v_proj_, out_proj_, fc1_, fc2_;
  nn::AttentionSlot attention_;
};

class AudioOutput : public nn::Unit {
 public:
  AudioOutput(const Qwen2_5OmniAudioConfig& config, const nn::ParamOptions& options);
  /// [T, D] -> [R, O].
  torch::Tensor forward(const torch::Tensor& x_TD, const torch::Tensor& pooled_rows);

 private:
  nn::LayerNorm norm_;
  nn::Linear proj_;
  nn::Embedding bos_eos_;  // in every file, read by no forward
};

/// Features: log-mel frames [P, F] of all clips, one after another. Grids: {frames, 1, 1}. A clip of fewer than 3 frames has
/// no token.
class Qwen2_5OmniAudio final : public Encoder {
 public:
  Qwen2_5OmniAudio(Qwen2_5OmniAudioConfig config, const nn::ParamOptions& options);

  torch::Tensor lm_encode(const torch::Tensor& features_PF,
                          const std::vector<Grid>& grids) override;

  int64_t feature_width() const override { return config_.num_mel_bins; }
  int64_t output_size() const override { return config_.output_size; }
  int64_t num_tokens(const Grid& grid) const override;
  const nlohmann::json& config() const override { return config_.source; }
  io::RuleSet rules() const override;
  bool is_projector(const std::string& parameter) const override;
  std::unique_ptr<media::Processor> make_processor(
      const nlohmann::json& preprocessor) const override;
  double flops(const std::vector<Grid>& grids) const override;

 private:
  Qwen2_5OmniAudioConfig config_;
  std::vector<double> inv_timescales_;
  AudioStem stem_;
  std::vector<std::unique_ptr<AudioLayer>> layers_;
  AudioOutput output_;
};

}  // namespace veomni::model
