// SPDX-License-Identifier: Apache-2.0
/// Two autograd nodes around a unit's body, since modules have no hooks.
#pragma once

#include <memory>

#include "veomni/nn/unit.h"

namespace veomni::parallel {

/// What happens around one call of a body in its backward.
class Bracket {
 public:
  virtual ~Bracket() = default;
  /// Before any node of the body runs backward.
  virtual void before_backward() = 0;
  /// After every gradient of the body has been accumulated.
  virtual void after_backward() = 0;
};

/// Runs body(inputs) between the nodes. Both run backward once whenever a gradient reaches any
/// output, also if no input needs one (token ids, pixels) and whatever the body recorded: every
/// floating-point output requires grad. Grad mode must be on. The nodes own `bracket`.
nn::Unit::Tensors run_bracketed(const nn::Unit::Tensors& inputs, const nn::Unit::Body& body,
                                const std::shared_ptr<Bracket>& bracket);

/// A leaf of no elements that requires grad: an edge for nodes whose other inputs may need none.
torch::Tensor make_anchor();

/// Whether autograd can carry a gradient for it: defined, and floating-point or complex.
bool is_differentiable(const torch::Tensor& tensor);

bool any_requires_grad(const nn::Unit::Tensors& tensors);

}  // namespace veomni::parallel
