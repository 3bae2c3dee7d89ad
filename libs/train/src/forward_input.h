// SPDX-License-Identifier: Apache-2.0
/// The file of `veomni forward` as packed rows.
#pragma once

#include <torch/types.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "veomni/io/safetensors.h"
#include "veomni/model/omni_model.h"

namespace veomni::train {

/// Items' rows lie one after another. Where each item's begin, and behind the last one their number.
std::vector<int64_t> first_rows(const std::vector<int64_t>& rows_of_item);
/// The rows of some items (ascending), together.
torch::Tensor take_rows(const torch::Tensor& all, const std::vector<int64_t>& rows_of_item,
                        const std::vector<int64_t>& items);

/// All items of one modality in a file.
struct ForwardMedia {
  torch::Tensor features_PF;       ///< float32
  std::vector<model::Grid> grids;  ///< an item each
  std::vector<int64_t> rows;       ///< feature rows of each item

  /// The items `index` (ascending), their features together.
  model::MediaInput take(const std::vector<int64_t>& index) const;
};

/// An encoder's items: pixel_values or hidden_states [P, F] with image_grid_thw or grid_thw [N, 3] for pictures;
/// input_features [M, P] with feature_lens [N] for sound. Nothing where the file has none.
/// @throws ConfigError for shapes that do not fit
std::optional<ForwardMedia> read_encoder_media(const io::SafetensorsFile& file,
                                               const std::string& modality,
                                               const model::Encoder& encoder);
/// A picture decoder's items: pixel_values [N, C, H, W].
ForwardMedia read_decoder_media(const io::SafetensorsFile& file, const model::Decoder& decoder);

/// A tensor of the file, or undefined.
torch::Tensor read_tensor(const io::SafetensorsFile& file, const std::string& name);

/// Says which tensors of the file are not used. @param known  names that are
void note_unused(const io::SafetensorsFile& file, const std::vector<std::string>& known);

/// B rows  S columns  V vocabulary
struct ForwardInput {
  torch::Tensor ids_BS, mask_BS;  ///< int64; mask 1 where there is a token
  torch::Tensor positions_ABS;    ///< int64 [1 or 3, B, S]; undefined: by the model's rule
  torch::Tensor targets_BS;       ///< shifted labels, -100 where none; undefined without labels
  torch::Tensor cotangent_BSV;    ///< or undefined
  std::map<std::string, ForwardMedia> media;
  std::map<std::string, int64_t> placeholder;  ///< the id that stands for a modality's tokens
  std::string path;

  int64_t num_targets() const;
};

/// @param config  the directory's config.json: <modality>_token_id are its placeholders
/// @throws ConfigError for a missing or misshapen tensor; names not needed are ignored with a note
ForwardInput read_forward_input(const std::string& file, model::OmniModel& model,
                                const nlohmann::json& config);

/// One rank's rows, packed, and where each packed token belongs in [B * S].
struct PackedRows {
  model::ModelInput input;
  torch::Tensor slot_T;
};
/// @throws ConfigError where a row's placeholders are not what its items make
PackedRows pack_rows(const ForwardInput& input, model::OmniModel& model, int rank, int world);

}  // namespace veomni::train
