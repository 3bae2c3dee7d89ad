// SPDX-License-Identifier: Apache-2.0
/// Seam 3 of 4. How tokens reach their experts: expert parallelism and router replay replace it.
#pragma once

#include <memory>

#include "veomni/nn/module.h"
#include "veomni/nn/sequence.h"

namespace veomni::nn {

/// T tokens  E experts  A active experts a token  C routed rows  D width
struct Routing {
  torch::Tensor expert_TA;  ///< int64 expert ids
  torch::Tensor weight_TA;  ///< combine weights, max(fp32, dtype)
};

/// Rows in expert order.
struct Dispatched {
  torch::Tensor rows_CD;
  torch::Tensor end_E;   ///< int32 on the device: rows of expert e are [end[e-1], end[e])
  torch::Tensor load_E;  ///< tokens routed to each expert over all ranks, wide dtype, no gradient
  std::shared_ptr<void> back;  ///< what combine() needs; belongs to the dispatcher
};

class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;
  /// The ids of the `active` experts with the highest scores -> [T, A]. Router replay and forced balance override it.
  virtual torch::Tensor choose(torch::Tensor score_TE, int64_t active, const Sequence& seq) = 0;
  /// Copies each token's row to its experts.
  virtual Dispatched dispatch(torch::Tensor x_TD, const Routing& routing) = 0;
  /// Weighted sum of a token's expert rows, accumulated in max(fp32, dtype) -> [T, D].
  virtual torch::Tensor combine(torch::Tensor y_CD, const Dispatched& from) = 0;
};

/// All experts are here.
class LocalDispatcher final : public TokenDispatcher {
 public:
  explicit LocalDispatcher(int64_t num_experts) : num_experts_(num_experts) {}
  torch::Tensor choose(torch::Tensor score_TE, int64_t active, const Sequence& seq) override;
  Dispatched dispatch(torch::Tensor x_TD, const Routing& routing) override;
  torch::Tensor combine(torch::Tensor y_CD, const Dispatched& from) override;

 private:
  int64_t num_experts_;
};

/// Where a mixture-of-experts module keeps its dispatcher.
class DispatchSlot final : public Module {
 public:
  explicit DispatchSlot(int64_t num_experts) : num_experts_(num_experts) {
    set_dispatcher(nullptr);
  }
  TokenDispatcher& dispatcher() { return *dispatcher_; }
  int64_t num_experts() const { return num_experts_; }
  /// nullptr restores LocalDispatcher.
  void set_dispatcher(std::shared_ptr<TokenDispatcher> dispatcher);

 private:
  int64_t num_experts_;
  std::shared_ptr<TokenDispatcher> dispatcher_;
};

}  // namespace veomni::nn
