// SPDX-License-Identifier: Apache-2.0
/// Seam 4 of 4. How an encoder's rows reach the tokens they stand for.
#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "veomni/nn/module.h"

namespace veomni::nn {

/// P encoder rows on this rank  R rows whose tokens live on this rank
struct Routes {
  torch::Tensor tokens;  ///< [R] int64: this rank's token index of each delivered row, ascending
};

class EmbedScatter {
 public:
  virtual ~EmbedScatter() = default;
  /// rows [P, D] -> the rows whose tokens live on this rank, in token order [R, D]. R == 0 is legal and still runs.
  /// A model then writes `x = ops::put_rows(x, routes.tokens, scatter.deliver(rows, routes))`.
  virtual torch::Tensor deliver(torch::Tensor rows_PD, const Routes& routes) = 0;
};

/// Encoder and tokens are on the same rank: rows are already in token order.
class LocalScatter final : public EmbedScatter {
 public:
  torch::Tensor deliver(torch::Tensor rows_PD, const Routes& routes) override;
};

/// Where an omni model keeps its scatter.
class ScatterSlot final : public Module {
 public:
  EmbedScatter& scatter() { return *scatter_; }
  /// nullptr restores LocalScatter.
  void set_scatter(std::shared_ptr<EmbedScatter> scatter);

 private:
  std::shared_ptr<EmbedScatter> scatter_ = std::make_shared<LocalScatter>();
};

}  // namespace veomni::nn
