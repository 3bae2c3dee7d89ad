// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/forward.h"

#include <torch/csrc/autograd/autograd.h>

#include "forward_input.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/checkpoint/hf_export.h"
#include "veomni/io/safetensors.h"
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
  return model
      .losses(rows.input, {{"text", targets > 0 ? 1.0 / static_cast<double>(targets) : 0.0}})
      .at("text");
}

void write_outputs(const std::string& path, const Outputs& outputs) {
  std::vector<io::TensorEntry> entries;
  for (const auto& [name, tensor] : outputs) {
    entries.push_back(
        {name, nn::io_dtype(tensor.scalar_type()), tensor.sizes().vec(), nn::tensor_bytes(tensor)});
  }
  io::write_safetensors(path, entries, {{"format", "pt"}});
}

void forward_on_rank(const ForwardOptions& options, DeviceMesh& mesh) {
  const model::ModelOptions model_options{.foundation = {.path = options.model_dir}};
  parallel::ParallelOptions parallel = options.parallel;
  parallel.defaults.param_dtype = options.dtype;
  const auto ready = ready_model(model_options, parallel, mesh, nn::Masters::kTrainable, 0);
  auto& model = ready.model;
  auto& dp = data_parallel(mesh);
  const auto in = read_forward_input(options.input_file, model->foundation().vocab_size());
  VEOMNI_CHECK_CONFIG(!options.grads || in.targets_BS.defined() || in.cotangent_BSV.defined(),
                      options.input_file, ": --grads needs labels [B, S] or cotangent [B, S, V]");
  const auto rows = pack_rows(in, dp.rank(), dp.size());

  Outputs outputs;
  const bool through_logits = options.grads && !in.targets_BS.defined();
  {
    torch::AutoGradMode grad_mode(through_logits);
    const auto logits_TV = model->logits(rows.input);
    outputs.emplace_back("logits", gather_logits(logits_TV, rows, in, dp));
    if (through_logits) {
      const auto cotangent =
          in.cotangent_BSV.flatten(0, 1).index_select(0, rows.slot_T).to(logits_TV.scalar_type());
      logits_TV.backward(cotangent);
    }
  }
  if (in.targets_BS.defined()) {
    torch::AutoGradMode grad_mode(options.grads);
    const auto loss = loss_of(*model, rows, in);
    if (options.grads) loss.backward();
    auto sum = loss.detach().clone();
    dp.all_reduce(sum, sum, ReduceOp::kSum)->wait();
    outputs.emplace_back("loss", sum);
  }
  if (options.grads) {
    auto& foundation = model->foundation();
    const checkpoint::HfPart part{&foundation, foundation.rules(), foundation.config()};
    const auto wide = nn::wide_dtype(nn::parse_dtype(options.dtype));
    checkpoint::for_each_file_tensor(part, wide, parallel::full_gradient, *ready.parallel.group,
                                     [&](const std::string& name, const torch::Tensor& grad) {
                                       outputs.emplace_back("grad." + name, grad.clone());
                                     });
  }
  if (mesh.communicator("world")->rank() == 0) write_outputs(options.output_file, outputs);
}

}  // namespace

void run_forward(const ForwardOptions& options) {
  apply_ops(options.ops);
  run_world(options.mesh, options.comm, [&](DeviceMesh& mesh) { forward_on_rank(options, mesh); });
}

}  // namespace veomni::train
