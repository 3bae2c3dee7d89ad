// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "veomni/data/collator.h"
#include "veomni/model/omni_model.h"

namespace veomni::train {

inline model::MediaInput media_input(const data::MediaBatch& batch) {
  return {batch.features_PF, batch.grids, {batch.tokens_R}, {}};
}

/// The one place where a batch of `data` becomes the input of `model`; weights are the objective's business.
inline model::ModelInput batch_input(const data::Batch& batch) {
  auto info = std::make_shared<nn::SequenceInfo>();
  info->cu_seqlens = batch.cu_seqlens;
  info->position_ids = batch.position_ids_T;
  model::ModelInput input;
  input.ids_T = batch.input_ids_T;
  input.labels_T = batch.labels_T;
  input.seq = std::move(info);
  for (const auto& [modality, items] : batch.inputs) input.inputs[modality] = media_input(items);
  for (const auto& [modality, items] : batch.targets) input.targets[modality] = media_input(items);
  return input;
}

}  // namespace veomni::train
