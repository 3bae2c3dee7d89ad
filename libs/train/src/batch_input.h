// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "veomni/data/collator.h"
#include "veomni/model/omni_model.h"

namespace veomni::train {

/// The one place where a batch of `data` becomes the input of `model`.
inline model::ModelInput batch_input(const data::Batch& batch) {
  auto info = std::make_shared<nn::SequenceInfo>();
  info->cu_seqlens = batch.cu_seqlens;
  info->position_ids = batch.position_ids_T;
  return {batch.input_ids_T, batch.labels_T, std::move(info)};
}

}  // namespace veomni::train
