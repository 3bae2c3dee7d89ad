// SPDX-License-Identifier: Apache-2.0
/// Keeps the codes of a tokenizer in use while it trains.
#pragma once

#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/data/collator.h"
#include "veomni/model/omni_model.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// A codebook trained from random rows collapses: few codes win early and the others never get a gradient. So codes
/// begin as the k-means centres of latents that already mean something, and a code that nothing in the step's batch
/// is nearest to is put where a latent is (Dhariwal et al., arXiv 2005.00341, section 3.1). Both read the step's own
/// batch only: there is no state, and a resumed run does the same.
class CodebookKeeper {
 public:
  CodebookKeeper(const CodebookOptions& options, uint64_t seed, model::OmniModel& model,
                 Communicator& dp, Communicator& group);

  /// Collective. @param step  steps done so far
  void before_step(int64_t step, const std::vector<data::Batch>& batches);

 private:
  torch::Tensor all_latents(const std::vector<data::Batch>& batches);
  void write(const torch::Tensor& codes_CE);

  CodebookOptions options_;
  uint64_t seed_;
  model::OmniModel& model_;
  std::string modality_;
  Communicator& dp_;
  Communicator& group_;
};

/// k-means with k-means++ seeding (Arthur & Vassilvitskii 2007), in float64 and in a fixed order.
/// x [R, E], R >= 1 -> [C, E]; with fewer than C different rows the rest repeat some.
torch::Tensor k_means(const torch::Tensor& x_RE, int64_t num_codes, uint64_t seed, int iterations);

/// Rows of `codes_CE` that no row of `x_RE` is nearest to, replaced by rows of x drawn by their squared distance to
/// their own code.
torch::Tensor restart_unused(const torch::Tensor& codes_CE, const torch::Tensor& x_RE,
                             uint64_t seed, int64_t step);

}  // namespace veomni::train
