// SPDX-License-Identifier: Apache-2.0
#include "forward_input.h"

#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/io/safetensors.h"
#include "veomni/nn/dtype.h"

namespace veomni::train {

namespace {

constexpr int64_t kIgnored = -100;
const std::vector<std::string> kKnown = {"input_ids", "attention_mask", "position_ids", "labels",
                                         "cotangent"};

torch::Tensor read_tensor(const io::SafetensorsFile& file, const std::string& name) {
  const auto view = file.tensor(name);
  const at::IntArrayRef shape(view.shape.data(), view.shape.size());
  return torch::from_blob(const_cast<std::byte*>(view.bytes.data()), shape,
                          torch::dtype(nn::torch_dtype(view.dtype)))
      .clone();
}

// An integer tensor of input_ids' shape.
torch::Tensor read_like_ids(const io::SafetensorsFile& file, const std::string& name,
                            const torch::Tensor& ids_BS) {
  const auto tensor = read_tensor(file, name);
  VEOMNI_CHECK_CONFIG(tensor.sizes() == ids_BS.sizes(), file.path(), ": ", name, " has shape ",
                      io::shape_text(tensor.sizes()), ", input_ids ",
                      io::shape_text(ids_BS.sizes()));
  return tensor.to(torch::kLong);
}

// targets[b][s] = labels[b][s + 1]: what Hugging Face's causal loss counts.
torch::Tensor shift_labels(const torch::Tensor& labels_BS, const torch::Tensor& mask_BS,
                           const std::string& where) {
  auto targets_BS = torch::full_like(labels_BS, kIgnored);
  const int64_t S = labels_BS.size(1);
  if (S > 1) targets_BS.narrow(1, 0, S - 1).copy_(labels_BS.narrow(1, 1, S - 1));
  const auto orphans = (targets_BS != kIgnored) & (mask_BS == 0);
  VEOMNI_CHECK_CONFIG(
      !orphans.any().item<bool>(), where,
      ": a label follows a masked position, which predicts nothing; set it to -100");
  return targets_BS;
}

}  // namespace

int64_t ForwardInput::num_targets() const { return (targets_BS != kIgnored).sum().item<int64_t>(); }

ForwardInput read_forward_input(const std::string& path, int64_t vocab_size) {
  const io::SafetensorsFile file(path);
  for (const auto& name : file.names()) {
    if (!std::count(kKnown.begin(), kKnown.end(), name))
      log::info("{}: {} is not needed and ignored", path, name);
  }
  VEOMNI_CHECK_CONFIG(file.has("input_ids"), path,
                      ": input_ids [B, S] is missing (it has: ", join(file.names()), ")");
  ForwardInput in;
  in.ids_BS = read_tensor(file, "input_ids").to(torch::kLong);
  VEOMNI_CHECK_CONFIG(in.ids_BS.dim() == 2, path, ": input_ids must be [B, S], got ",
                      io::shape_text(in.ids_BS.sizes()));
  in.mask_BS = file.has("attention_mask")
                   ? read_like_ids(file, "attention_mask", in.ids_BS).ne(0).to(torch::kLong)
                   : torch::ones_like(in.ids_BS);
  const int64_t S = in.ids_BS.size(1);
  in.positions_BS = file.has("position_ids") ? read_like_ids(file, "position_ids", in.ids_BS)
                                             : torch::arange(S, torch::kLong).expand_as(in.ids_BS);
  const auto wrong = ((in.ids_BS < 0) | (in.ids_BS >= vocab_size)) & (in.mask_BS == 1);
  VEOMNI_CHECK_CONFIG(!wrong.any().item<bool>(), path,
                      ": input_ids holds ids outside the vocabulary [0, ", vocab_size, ")");
  if (file.has("labels")) {
    in.targets_BS =
        shift_labels(read_like_ids(file, "labels", in.ids_BS), in.mask_BS, path + ": labels");
  }
  if (file.has("cotangent")) {
    in.cotangent_BSV = read_tensor(file, "cotangent");
    const std::vector<int64_t> expected = {in.ids_BS.size(0), S, vocab_size};
    VEOMNI_CHECK_CONFIG(in.cotangent_BSV.sizes() == expected, path, ": cotangent has shape ",
                        io::shape_text(in.cotangent_BSV.sizes()), ", logits ",
                        io::shape_text(expected));
  }
  return in;
}

PackedRows pack_rows(const ForwardInput& in, int rank, int world) {
  auto info = std::make_shared<nn::SequenceInfo>();
  std::vector<torch::Tensor> slots;
  const int64_t B = in.ids_BS.size(0), S = in.ids_BS.size(1);
  for (int64_t b = rank; b < B; b += world) {
    const auto columns = in.mask_BS[b].nonzero().flatten();
    if (columns.size(0) == 0) continue;
    slots.push_back(columns + b * S);
    info->cu_seqlens.push_back(info->cu_seqlens.back() + static_cast<int32_t>(columns.size(0)));
  }
  const auto slot_T = slots.empty() ? torch::empty({0}, torch::kLong) : torch::cat(slots);
  const auto take = [&](const torch::Tensor& grid_BS) {
    return grid_BS.reshape({-1}).index_select(0, slot_T);
  };
  info->position_ids = take(in.positions_BS);
  PackedRows packed{{take(in.ids_BS), {}, info}, slot_T};
  if (in.targets_BS.defined()) packed.input.labels_T = take(in.targets_BS);
  return packed;
}

}  // namespace veomni::train
