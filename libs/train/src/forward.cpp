// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/forward.h"

#include <torch/csrc/autograd/autograd.h>

#include "forward_input.h"
#include "resolved.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/checkpoint/hf_export.h"
#include "veomni/io/hf_directory.h"
#include "veomni/io/safetensors.h"
#include "veomni/model/build.h"
#include "veomni/nn/dtype.h"
#include "veomni/parallel/fully_shard.h"
#include "veomni/train/world.h"

namespace veomni::train {

namespace {

using Outputs = std::vector<std::pair<std::string, torch::Tensor>>;

// [T, V] of this rank's tokens -> [B, S, V] of all ranks'. A token lies on one rank, so the sum places it.
torch::Tensor gather_logits(const torch::Tensor& logits_TV, const PackedRows& rows,
                            const ForwardInput& in, Communicator& dp) {
  const int64_t B = in.ids_BS.size(0), S = in.ids_BS.size(1), V = logits_TV.size(1);
  auto all = torch::zeros({B * S, V}, logits_TV.options());
  all.index_copy_(0, rows.slot_T, logits_TV.detach());
  dp.all_reduce(all, all, ReduceOp::kSum)->wait();
  return all.view({B, S, V});
}

torch::Tensor loss_of(model::OmniModel& model, const PackedRows& rows, const ForwardInput& in) {
  const int64_t targets = in.num_targets();
  auto input = rows.input;
  input.weights_T =
      torch::full({input.labels_T.size(0)}, targets > 0 ? 1.0 / static_cast<double>(targets) : 0.0,
                  torch::kDouble);
  return model.losses(input).text.total;
}

void write_outputs(const std::string& path, const Outputs& outputs) {
  std::vector<io::TensorEntry> entries;
  for (const auto& [name, tensor] : outputs) {
    entries.push_back(
        {name, nn::io_dtype(tensor.scalar_type()), tensor.sizes().vec(), nn::tensor_bytes(tensor)});
  }
  io::write_safetensors(path, entries, {{"format", "pt"}});
}

// One grad.<name> per file tensor of the directory. A directory of several parts of ours has a part's name before it.
void add_gradients(const ForwardOptions& options, const ReadyModel& ready, Outputs& outputs) {
  const auto wide = nn::wide_dtype(nn::parse_dtype(options.dtype));
  for (const auto& folder :
       model::saved_layout(*ready.model, model::options_of_directory(options.model_dir))) {
    for (const auto& part : folder.parts) {
      const std::string prefix = folder.directory.empty() ? "grad." : "grad." + part.name + ".";
      checkpoint::for_each_file_tensor({part.module, part.rules}, wide, parallel::full_gradient,
                                       *ready.parallel.group,
                                       [&](const std::string& name, const torch::Tensor& grad) {
                                         outputs.emplace_back(prefix + name, grad.clone());
                                       });
    }
  }
}

// Rows [each rank's own, width] of items dealt in turn -> all items' rows in order, on every rank.
torch::Tensor gather_items(const torch::Tensor& mine, const std::vector<int64_t>& rows_of_item,
                           const std::vector<int64_t>& my_items, Communicator& dp) {
  const auto begin = first_rows(rows_of_item);
  auto sizes = mine.sizes().vec();
  sizes[0] = begin.back();
  auto all = torch::zeros(sizes, mine.options());
  int64_t at = 0;
  for (int64_t item : my_items) {
    all.narrow(0, begin[item], rows_of_item[item])
        .copy_(mine.detach().narrow(0, at, rows_of_item[item]));
    at += rows_of_item[item];
  }
  dp.all_reduce(all, all, ReduceOp::kSum)->wait();
  return all;
}

std::vector<int64_t> deal(size_t count, const Communicator& dp) {
  std::vector<int64_t> mine;
  for (size_t i = dp.rank(); i < count; i += dp.size()) mine.push_back(static_cast<int64_t>(i));
  return mine;
}

void check_cotangent(const ForwardOptions& options, const torch::Tensor& cotangent,
                     at::IntArrayRef shape, const char* of) {
  VEOMNI_CHECK_CONFIG(!options.grads || cotangent.defined(), options.input_file,
                      ": --grads needs cotangent of the shape of ", of);
  VEOMNI_CHECK_CONFIG(!cotangent.defined() || cotangent.sizes() == shape, options.input_file,
                      ": cotangent has shape ", io::shape_text(cotangent.sizes()), ", ", of, " ",
                      io::shape_text(shape));
}

Outputs forward_encoder(const ForwardOptions& options, const ReadyModel& ready, Communicator& dp) {
  auto& model = *ready.model;
  const auto& [modality, encoder] = *model.encoders().begin();
  const io::SafetensorsFile file(options.input_file);
  note_unused(file, {"pixel_values", "hidden_states", "image_grid_thw", "grid_thw",
                     "input_features", "feature_lens", "cotangent"});
  const auto media = read_encoder_media(file, modality, *encoder);
  VEOMNI_CHECK_CONFIG(media, options.input_file, ": has no features for the ", modality,
                      " encoder (pixel_values or input_features)");
  std::vector<int64_t> tokens;
  int64_t total = 0;
  for (const auto& grid : media->grids) {
    tokens.push_back(encoder->num_tokens(grid));
    total += tokens.back();
  }
  const auto cotangent = read_tensor(file, "cotangent");
  check_cotangent(options, cotangent, {total, encoder->output_size()}, "features");
  const auto mine = deal(media->grids.size(), dp);
  torch::AutoGradMode grad_mode(options.grads);
  const auto out = model.encode(modality, media->take(mine));
  Outputs outputs{{"features", gather_items(out, tokens, mine, dp)}};
  if (options.grads) out.backward(take_rows(cotangent, tokens, mine).to(out.scalar_type()));
  return outputs;
}

Outputs forward_decoder(const ForwardOptions& options, const ReadyModel& ready, Communicator& dp) {
  auto& model = *ready.model;
  const auto& [modality, decoder] = *model.decoders().begin();
  const io::SafetensorsFile file(options.input_file);
  note_unused(file, {"pixel_values", "cotangent"});
  const auto media = read_decoder_media(file, *decoder);
  const auto pixel_shape = read_tensor(file, "pixel_values").sizes().vec();
  const int64_t N = pixel_shape[0], C = pixel_shape[1], H = pixel_shape[2], W = pixel_shape[3];
  auto cotangent = read_tensor(file, "cotangent");
  check_cotangent(options, cotangent, pixel_shape, "pixels");
  const auto mine = deal(media.grids.size(), dp);
  const auto input = media.take(mine);
  const int64_t n = N > 0 ? decoder->num_tokens(media.grids[0]) : 0;
  const auto codes =
      gather_items(model.codes(modality, input), std::vector<int64_t>(N, n), mine, dp);
  torch::AutoGradMode grad_mode(options.grads);
  const auto out = model.reconstruct(modality, input);
  const auto pixels = gather_items(out, media.rows, mine, dp);
  Outputs outputs{{"codes", codes.view({N, n})},
                  {"pixels", pixels.view({N, H, W, C}).permute({0, 3, 1, 2}).contiguous()}};
  if (options.grads) {
    const auto rows = cotangent.permute({0, 2, 3, 1}).reshape({N * H * W, C});
    out.backward(take_rows(rows, media.rows, mine).to(out.scalar_type()));
  }
  return outputs;
}

Outputs forward_tokens(const ForwardOptions& options, const ReadyModel& ready, Communicator& dp) {
  auto& model = *ready.model;
  const auto config = io::HfDirectory::open(options.model_dir).config();
  const auto in = read_forward_input(options.input_file, model, config);
  VEOMNI_CHECK_CONFIG(!options.grads || in.targets_BS.defined() || in.cotangent_BSV.defined(),
                      options.input_file, ": --grads needs labels [B, S] or cotangent [B, S, V]");
  const auto rows = pack_rows(in, model, dp.rank(), dp.size());
  Outputs outputs;
  const bool through_logits = options.grads && !in.targets_BS.defined();
  {
    torch::AutoGradMode grad_mode(through_logits);
    const auto logits_TV = model.logits(rows.input);
    outputs.emplace_back("logits", gather_logits(logits_TV, rows, in, dp));
    if (through_logits) {
      const auto cotangent =
          in.cotangent_BSV.flatten(0, 1).index_select(0, rows.slot_T).to(logits_TV.scalar_type());
      logits_TV.backward(cotangent);
    }
  }
  if (in.targets_BS.defined()) {
    torch::AutoGradMode grad_mode(options.grads);
    const auto loss = loss_of(model, rows, in);
    if (options.grads) loss.backward();
    auto sum = loss.detach().clone();
    dp.all_reduce(sum, sum, ReduceOp::kSum)->wait();
    outputs.emplace_back("loss", sum);
  }
  return outputs;
}

void forward_on_rank(const ForwardOptions& options, DeviceMesh& mesh) {
  const auto model_options = model::options_of_directory(options.model_dir);
  parallel::ParallelOptions parallel = options.parallel;
  parallel.defaults.param_dtype = options.dtype;
  const auto ready = ready_model(model_options, parallel, mesh, nn::Masters::kTrainable, 0);
  auto& dp = data_parallel(mesh);
  auto outputs = ready.model->has_foundation()      ? forward_tokens(options, ready, dp)
                 : !ready.model->encoders().empty() ? forward_encoder(options, ready, dp)
                                                    : forward_decoder(options, ready, dp);
  if (options.grads) add_gradients(options, ready, outputs);
  if (mesh.communicator("world")->rank() == 0) write_outputs(options.output_file, outputs);
}

}  // namespace

void run_forward(const ForwardOptions& options) {
  apply_memory(options.memory);
  apply_ops(options.ops);
  const std::string job = fmt::format("{}\n{}\n{}\n{}\n{}", options.model_dir, options.input_file,
                                      options.dtype, options.grads, resolved(options));
  run_world({options.mesh, options.comm, job, ""},
            [&](DeviceMesh& mesh) { forward_on_rank(options, mesh); });
}

}  // namespace veomni::train
