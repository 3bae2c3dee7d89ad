// SPDX-License-Identifier: Apache-2.0
#include "audio.h"

#include <algorithm>
#include <cmath>

#include "host_index.h"
#include "processor.h"
#include "veomni/base/error.h"
#include "veomni/ops/activation.h"
#include "veomni/ops/conv.h"
#include "veomni/ops/resample.h"
#include "veomni/ops/rope.h"
#include "veomni/ops/rows.h"

namespace veomni::model {

namespace {

constexpr double kNormEps = 1e-5;
constexpr double kMaxTimescale = 10000.0;
constexpr int64_t kKernel = 3;

nn::Init weight_init(const Qwen2_5OmniAudioConfig& c) {
  return nn::Init::normal(c.initializer_range);
}

int64_t after_stride2(int64_t frames) { return (frames + 1) / 2; }

// Rounded in float32 as the model was trained with.
std::vector<double> inv_timescales(int64_t channels) {
  const auto half = static_cast<double>(channels / 2);
  const auto scales = torch::exp(torch::arange(channels / 2, torch::kFloat) *
                                 -(std::log(kMaxTimescale) / (half - 1)));
  std::vector<double> values(channels / 2);
  std::copy_n(scales.data_ptr<float>(), values.size(), values.begin());
  return values;
}

std::shared_ptr<const AudioChunks> chunk(const std::vector<Grid>& grids, int64_t chunk_frames,
                                         int64_t rows) {
  auto chunks = std::make_shared<AudioChunks>();
  std::vector<int64_t> lengths;
  int64_t frames_in_all = 0, first_row = 0;
  for (const Grid& grid : grids) {
    const int64_t frames = grid[0];
    VEOMNI_CHECK(frames >= 0 && grid[1] == 1 && grid[2] == 1, "a clip of ", frames, " x ", grid[1],
                 " x ", grid[2], ": needs {frames, 1, 1}");
    frames_in_all += frames;
    for (int64_t begin = 0; begin < frames; begin += chunk_frames)
      lengths.push_back(std::min(chunk_frames, frames - begin));
    for (int64_t row = 0; row < after_stride2(frames) / 2 * 2; ++row)
      chunks->pooled_rows.push_back(first_row + row);
    first_row += after_stride2(frames);
  }
  VEOMNI_CHECK(frames_in_all == rows, rows, " rows of frames for clips of ", frames_in_all,
               " frames in all");
  chunks->num_chunks = static_cast<int64_t>(lengths.size());
  chunks->longest =
      lengths.empty() ? chunk_frames : *std::max_element(lengths.begin(), lengths.end());
  for (int64_t n = 0; n < chunks->num_chunks; ++n) {
    chunks->padded |= lengths[n] < chunks->longest;
    for (int64_t i = 0; i < lengths[n]; ++i) chunks->frame_rows.push_back(n * chunks->longest + i);
    for (int64_t i = 0; i < after_stride2(lengths[n]); ++i) {
      chunks->conv_rows.push_back(n * after_stride2(chunks->longest) + i);
      chunks->positions.push_back(i);
    }
    chunks->cu_seqlens.push_back(static_cast<int32_t>(chunks->conv_rows.size()));
  }
  return chunks;
}

// Rows [P, C] at their places in [N · L, C], zeros elsewhere.
torch::Tensor spread(const torch::Tensor& x_PC, const AudioChunks& chunks) {
  auto zeros = torch::zeros({chunks.num_chunks * chunks.longest, x_PC.size(1)}, x_PC.options());
  return ops::put_rows(zeros, host_index(chunks.frame_rows, x_PC.device()), x_PC);
}

}  // namespace

AudioConv::AudioConv(int64_t in, int64_t out, int64_t stride, nn::Init init,
                     const nn::ParamOptions& o)
    : stride_(stride) {
  weight_ = parameter("weight", nn::Parameter({out, in, 1, kKernel}, o, init));
  bias_ = parameter("bias", nn::Parameter({out}, o, nn::Init::zeros(), nn::kTagBias));
}

torch::Tensor AudioConv::forward(const torch::Tensor& x_NLC) const {
  auto y_N1LC = ops::conv2d(x_NLC.unsqueeze(1), weight_.value(), bias_.value(),
                            {.stride_w = stride_, .pad_left = 1, .pad_right = 1});
  return y_N1LC.squeeze(1);
}

AudioStem::AudioStem(const Qwen2_5OmniAudioConfig& c, const nn::ParamOptions& o)
    : conv1_(c.num_mel_bins, c.width, 1, weight_init(c), o),
      conv2_(c.width, c.width, 2, weight_init(c), o) {
  child("conv1", conv1_);
  child("conv2", conv2_);
}

torch::Tensor AudioStem::forward(const torch::Tensor& x_PF,
                                 std::shared_ptr<const AudioChunks> chunks) {
  return run(x_PF, [this, chunks](const torch::Tensor& x_PF) {
    const int64_t N = chunks->num_chunks, L = chunks->longest;
    auto h_NLD = ops::gelu(conv1_.forward(spread(x_PF, *chunks).view({N, L, x_PF.size(1)})), false);
    const int64_t D = h_NLD.size(2);
    if (chunks->padded) {
      // What the first convolution makes of padding is not zero, and the second would read it.
      const auto real = host_index(chunks->frame_rows, x_PF.device());
      h_NLD = spread(ops::gather_rows(h_NLD.reshape({N * L, D}), real), *chunks).view({N, L, D});
    }
    h_NLD = ops::gelu(conv2_.forward(h_NLD), false);
    return ops::gather_rows(h_NLD.reshape({N * after_stride2(L), D}),
                            host_index(chunks->conv_rows, x_PF.device()));
  });
}

AudioLayer::AudioLayer(const Qwen2_5OmniAudioConfig& c, const nn::ParamOptions& o)
    : heads_(c.num_heads),
      head_dim_(c.head_dim()),
      attention_norm_(c.width, kNormEps, o),
      mlp_norm_(c.width, kNormEps, o),
      q_proj_(c.width, c.width, true, weight_init(c), o),
      k_proj_(c.width, c.width, false, weight_init(c), o),
      v_proj_(c.width, c.width, true, weight_init(c), o),
      out_proj_(c.width, c.width, true, weight_init(c), o),
      fc1_(c.width, c.mlp_dim, true, weight_init(c), o),
      fc2_(c.mlp_dim, c.width, true, weight_init(c), o) {
  spec_.scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  spec_.causal = false;
  child("attention_norm", attention_norm_);
  child("attention.q_proj", q_proj_);
  child("attention.k_proj", k_proj_);
  child("attention.v_proj", v_proj_);
  child("attention.out_proj", out_proj_);
  child("attention.core", attention_);
  child("mlp_norm", mlp_norm_);
  child("mlp.fc1", fc1_);
  child("mlp.fc2", fc2_);
}

torch::Tensor AudioLayer::attend(const torch::Tensor& x_TD, const nn::Sequence& seq) {
  using Role = nn::AttentionCore::Role;
  auto& core = attention_.core();
  const std::vector<int64_t> THK = {x_TD.size(0), heads_, head_dim_};
  auto q = core.exchange(q_proj_.forward(x_TD).view(THK), Role::kQuery, seq);
  auto k = core.exchange(k_proj_.forward(x_TD).view(THK), Role::kKey, seq);
  auto v = core.exchange(v_proj_.forward(x_TD).view(THK), Role::kValue, seq);
  auto out_THK = core.attend(std::move(q), std::move(k), std::move(v), seq, seq, spec_);
  return out_proj_.forward(out_THK.reshape({x_TD.size(0), heads_ * head_dim_}));
}

torch::Tensor AudioLayer::forward(const torch::Tensor& x_TD, const nn::Sequence& seq) {
  return run(x_TD, [this, seq](const torch::Tensor& x_TD) {
    auto h_TD = x_TD + attend(attention_norm_.forward(x_TD), seq);
    return h_TD + fc2_.forward(ops::gelu(fc1_.forward(mlp_norm_.forward(h_TD)), false));
  });
}

AudioOutput::AudioOutput(const Qwen2_5OmniAudioConfig& c, const nn::ParamOptions& o)
    : norm_(c.width, kNormEps, o),
      proj_(c.width, c.output_size, true, weight_init(c), o),
      bos_eos_(2, c.output_size, weight_init(c), o) {
  child("norm", norm_);
  child("proj", proj_);
  child("bos_eos", bos_eos_);
}

torch::Tensor AudioOutput::forward(const torch::Tensor& x_TD, const torch::Tensor& pooled_rows) {
  return run(x_TD, [this, pooled_rows](const torch::Tensor& x_TD) {
    auto x_RD = ops::mean_pairs(ops::gather_rows(x_TD, pooled_rows));
    auto none_0O = bos_eos_.forward(pooled_rows.slice(0, 0, 0));
    // No row of bos_eos, but its gradient is a zero and not undefined.
    return torch::cat({proj_.forward(norm_.forward(x_RD)), none_0O});
  });
}

Qwen2_5OmniAudio::Qwen2_5OmniAudio(Qwen2_5OmniAudioConfig config, const nn::ParamOptions& o)
    : config_(std::move(config)),
      inv_timescales_(inv_timescales(config_.width)),
      stem_(config_, o),
      output_(config_, o) {
  child("stem", stem_);
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    layers_.push_back(std::make_unique<AudioLayer>(config_, o));
    child("layers." + std::to_string(i), *layers_.back());
  }
  child("output", output_);
}

torch::Tensor Qwen2_5OmniAudio::lm_encode(const torch::Tensor& features_PF,
                                          const std::vector<Grid>& grids) {
  const auto chunks = chunk(grids, config_.chunk_frames(), features_PF.size(0));
  const auto device = features_PF.device();
  auto seq = std::make_shared<nn::SequenceInfo>();
  seq->cu_seqlens = chunks->cu_seqlens;
  seq->position_ids = host_index(chunks->positions, device);
  const auto dtype = features_PF.scalar_type();
  // A sinusoidal position is a rotary table laid in a row.
  const auto angles = ops::rope_table(seq->position_ids, inv_timescales_, dtype);
  auto h_TD =
      stem_.forward(features_PF, chunks) + torch::cat({angles.sin_TR, angles.cos_TR}, 1).to(dtype);
  for (auto& layer : layers_) h_TD = layer->forward(h_TD, seq);
  return output_.forward(h_TD, host_index(chunks->pooled_rows, device));
}

int64_t Qwen2_5OmniAudio::num_tokens(const Grid& grid) const { return after_stride2(grid[0]) / 2; }

bool Qwen2_5OmniAudio::is_projector(const std::string& parameter) const {
  return parameter.starts_with("output.proj.");
}

std::unique_ptr<media::Processor> Qwen2_5OmniAudio::make_processor(
    const nlohmann::json& preprocessor) const {
  return make_qwen2_5_omni_audio_processor(preprocessor, config_.num_mel_bins);
}

double Qwen2_5OmniAudio::flops(const std::vector<Grid>& grids) const {
  const auto& c = config_;
  const auto width = static_cast<double>(c.width), mel = static_cast<double>(c.num_mel_bins);
  const double layer = width * (4 * width + 2 * static_cast<double>(c.mlp_dim));
  const auto layers = static_cast<double>(c.num_layers);
  double flops = 0;
  for (const Grid& grid : grids) {
    const int64_t whole = grid[0] / c.chunk_frames();
    const auto tail = static_cast<double>(after_stride2(grid[0] % c.chunk_frames()));
    const auto window = static_cast<double>(c.n_window), wholes = static_cast<double>(whole);
    const auto frames = static_cast<double>(grid[0]), rows = wholes * window + tail;
    const double pairs = wholes * window * window + tail * tail;
    flops += 2 * kKernel * width * (frames * mel + rows * width) +
             layers * (2 * rows * layer + 4 * pairs * width) +
             2 * static_cast<double>(num_tokens(grid)) * width * static_cast<double>(c.output_size);
  }
  return flops;
}

}  // namespace veomni::model
