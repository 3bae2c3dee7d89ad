// SPDX-License-Identifier: Apache-2.0
/// The file of `veomni forward` as packed rows.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "veomni/model/omni_model.h"

namespace veomni::train {

/// B rows  S columns  V vocabulary
struct ForwardInput {
  torch::Tensor ids_BS, mask_BS, positions_BS;  ///< int64; mask 1 where there is a token
  torch::Tensor targets_BS;     ///< shifted labels, -100 where none; undefined without labels
  torch::Tensor cotangent_BSV;  ///< or undefined

  int64_t num_targets() const;
};

/// @throws ConfigError for a missing or misshapen tensor; names not needed are ignored with a note
ForwardInput read_forward_input(const std::string& file, int64_t vocab_size);

/// One rank's rows, packed, and where each packed token belongs in [B * S].
struct PackedRows {
  model::ModelInput input;
  torch::Tensor slot_T;
};
PackedRows pack_rows(const ForwardInput& input, int rank, int world);

}  // namespace veomni::train
