// SPDX-License-Identifier: Apache-2.0
/// Turns one modality into token embeddings the foundation can read.
#pragma once

#include <torch/types.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "veomni/io/tensor_rule.h"
#include "veomni/media/processor.h"
#include "veomni/nn/module.h"

namespace veomni::model {

using media::Grid;

/// P feature rows of all items  F features a row  R token embeddings  D output_size()
///
/// A Hugging Face-style module, as Foundation is. Knows nothing of ranks, meshes or sharding.
class Encoder : public nn::Module {
 public:
  /// features [P, F] in the parameters' dtype, the rows of all items one after another; grids: an item each.
  /// Returns [R, D], item order kept. P == 0 (a batch without this modality) is legal and returns [0, D] that still
  /// depends on every parameter, so that all ranks run the same backward.
  virtual torch::Tensor lm_encode(const torch::Tensor& features_PF,
                                  const std::vector<Grid>& grids) = 0;

  virtual int64_t feature_width() const = 0;
  virtual int64_t output_size() const = 0;
  /// Token embeddings of one item.
  virtual int64_t num_tokens(const Grid& grid) const = 0;
  /// How they lie for M-RoPE (media::Features::token_grid); the product is num_tokens.
  virtual Grid token_grid(const Grid& grid) const { return {num_tokens(grid), 1, 1}; }

  /// The config.json it was built from, every key kept.
  virtual const nlohmann::json& config() const = 0;
  /// File tensors <-> parameters, both directions; paths relative to this module, names as in the part's own directory.
  virtual io::RuleSet rules() const = 0;
  /// Whether a parameter (path relative to this module) belongs to what `train: projector` trains.
  virtual bool is_projector(const std::string& parameter) const = 0;

  /// @param preprocessor  content of preprocessor_config.json, or an empty object: the model's defaults
  virtual std::unique_ptr<media::Processor> make_processor(
      const nlohmann::json& preprocessor) const = 0;

  /// FLOPs of a forward over these items (multiply-add = 2).
  virtual double flops(const std::vector<Grid>& grids) const = 0;
};

}  // namespace veomni::model
