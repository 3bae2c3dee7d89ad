// SPDX-License-Identifier: Apache-2.0
#include "packed_step.h"

#include <map>

#include "veomni/data/collator.h"

namespace veomni::generate {

namespace {

torch::Tensor index_tensor(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kLong);
}

// Rows that are being put together.
class Packer {
 public:
  explicit Packer(int64_t axes) : positions_(axes) {}

  // The prompts not read yet, all collated at once: their media stay together.
  void collate(const std::vector<Sequence>& live) {
    data::MicroBatch prompts;
    for (const auto& sequence : live) {
      if (sequence.unread_prompt) prompts.samples.push_back(*sequence.unread_prompt);
    }
    if (prompts.samples.empty()) return;
    prompts_ = data::collate(prompts, static_cast<int>(positions_.size()));
    row_of_prompt_token_.reserve(prompts_.num_tokens());
  }

  void add(Sequence& sequence) {
    if (sequence.unread_prompt) add_prompt(sequence);
    for (const auto& token : sequence.unread) {
      if (!token.code_of.empty()) {
        codes_[token.code_of].push_back(token.id);
        code_rows_[token.code_of].push_back(size());
      }
      ids_.push_back(token.code_of.empty() ? token.id : 0);
      for (auto& axis : positions_) axis.push_back(sequence.next_position);
      ++sequence.next_position;
    }
    ends_.push_back(static_cast<int32_t>(size()));
  }

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }

  model::ModelInput input(torch::Device device) const {
    auto info = std::make_shared<nn::SequenceInfo>();
    info->cu_seqlens.insert(info->cu_seqlens.end(), ends_.begin(), ends_.end());
    info->position_ids = positions().to(device);
    model::ModelInput input;
    input.ids_T = index_tensor(ids_).to(device);
    input.seq = std::move(info);
    input.skip_absent = true;
    for (const auto& [modality, batch] : prompts_.inputs)
      input.inputs[modality] = media(batch, device);
    for (const auto& [modality, codes] : codes_)
      input.codes[modality] = {index_tensor(codes).to(device),
                               index_tensor(code_rows_.at(modality)).to(device)};
    return input;
  }

 private:
  void add_prompt(Sequence& sequence) {
    const int64_t length = sequence.unread_prompt->size();
    const auto ids = prompts_.input_ids_T.narrow(0, next_prompt_row_, length);
    const auto axes = prompts_.position_ids_T.dim() == 1 ? prompts_.position_ids_T.unsqueeze(0)
                                                         : prompts_.position_ids_T;
    const auto columns = axes.narrow(1, next_prompt_row_, length).contiguous();
    for (int64_t i = 0; i < length; ++i) {
      row_of_prompt_token_.push_back(size());
      ids_.push_back(ids.const_data_ptr<int64_t>()[i]);
      for (size_t axis = 0; axis < positions_.size(); ++axis) {
        const int64_t position = columns.const_data_ptr<int64_t>()[axis * length + i];
        positions_[axis].push_back(position);
        sequence.next_position = std::max(sequence.next_position, position + 1);
      }
    }
    next_prompt_row_ += length;
  }

  model::MediaInput media(const data::MediaBatch& batch, torch::Device device) const {
    std::vector<int64_t> rows;
    const auto tokens = batch.tokens_R.contiguous();
    for (int64_t i = 0; i < tokens.size(0); ++i)
      rows.push_back(row_of_prompt_token_[tokens.const_data_ptr<int64_t>()[i]]);
    return {batch.features_PF.to(device), batch.grids, {index_tensor(rows).to(device)}, {}};
  }

  torch::Tensor positions() const {
    std::vector<torch::Tensor> axes;
    for (const auto& axis : positions_) axes.push_back(index_tensor(axis));
    return axes.size() == 1 ? axes[0] : torch::stack(axes);
  }

  data::Batch prompts_;
  int64_t next_prompt_row_ = 0;
  std::vector<int64_t> row_of_prompt_token_;  // in the packed row
  std::vector<int64_t> ids_;
  std::vector<std::vector<int64_t>> positions_;
  std::vector<int32_t> ends_;
  std::map<std::string, std::vector<int64_t>> codes_, code_rows_;
};

std::span<const float> row(const torch::Tensor& logits, int64_t index) {
  return {logits.const_data_ptr<float>() + index * logits.size(1),
          static_cast<size_t>(logits.size(1))};
}

torch::Tensor on_host(const torch::Tensor& logits) {
  return logits.to(torch::kCPU, torch::kFloat).contiguous();
}

}  // namespace

StepLogits step(model::OmniModel& model, std::vector<Sequence>& live) {
  const auto device = model.device();
  Packer packer(model.foundation().position_axes());
  packer.collate(live);
  std::vector<int64_t> text_rows;
  std::map<std::string, std::vector<int64_t>> code_rows;
  for (auto& sequence : live) {
    packer.add(sequence);
    auto& rows = sequence.drawing.empty() ? text_rows : code_rows[sequence.drawing];
    rows.push_back(packer.size() - 1);
    sequence.unread_prompt = nullptr;
    sequence.unread.clear();
    sequence.is_cached = true;
  }
  std::map<std::string, torch::Tensor> code_indices;
  for (const auto& [modality, rows] : code_rows)
    code_indices[modality] = index_tensor(rows).to(device);
  const auto next =
      model.next(packer.input(device), index_tensor(text_rows).to(device), code_indices);

  StepLogits logits;
  const auto text = on_host(next.text_RV);
  logits.keep_.push_back(text);
  std::map<std::string, torch::Tensor> codes;
  for (const auto& [modality, rows] : next.codes_RC)
    logits.keep_.push_back(codes[modality] = on_host(rows));
  int64_t text_at = 0;
  std::map<std::string, int64_t> code_at;
  for (const auto& sequence : live) {
    logits.rows_.push_back(sequence.drawing.empty()
                               ? row(text, text_at++)
                               : row(codes.at(sequence.drawing), code_at[sequence.drawing]++));
  }
  return logits;
}

}  // namespace veomni::generate
