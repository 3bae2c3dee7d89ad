// SPDX-License-Identifier: Apache-2.0
/// A weight's layouts for matrix products, kept from one product to the next.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/util/intrusive_ptr.h>

#include <array>
#include <cstdint>

namespace veomni::ops {

/// Own kernels read a weight in panels: linear() and linear_cross_entropy() lay it out before they multiply, one way for the
/// forward pass and one for the gradient of x. Given a PackedWeight that keeps, they lay it out when its generation has moved
/// and read what is there otherwise: once per optimizer step however many micro-batches, chunks of a loss or recomputed
/// forwards there are. Costs up to twice the weight's memory.
///
/// A tensor's version counter cannot tell, since optimizers and gathers write through other tensors of the same memory: whoever
/// writes says so.
///
/// One thread at a time, as the weight itself.
class PackedWeight : public torch::CustomClassHolder {
 public:
  /// How a product sees weight [N, D].
  enum class Side {
    kForward,  ///< x · weightᵀ
    kInput,    ///< dy · weight
  };

  /// Whether layouts are kept at all; at first not. Turned off it frees them.
  void keep(bool on);
  bool keeps() const { return keeps_; }

  /// The number of writes so far.
  uint64_t generation() const { return generation_; }
  /// The weight's memory has been written.
  void written() { ++generation_; }
  /// Frees what is kept: the weight's memory is being freed.
  void release();
  /// Held now.
  int64_t bytes() const;

  /// The weight's panels, laid out now unless they are there; on the weight's device. For products of this library, which must
  /// run at the same instruction-set level.
  const at::Tensor& panels(Side side, const at::Tensor& weight_ND);

 private:
  struct Kept {
    at::Tensor panels;
    uint64_t generation = 0;
    int level = 0;
  };
  bool keeps_ = false;
  uint64_t generation_ = 0;
  std::array<Kept, 2> kept_;
};
using PackedWeightPtr = c10::intrusive_ptr<PackedWeight>;

}  // namespace veomni::ops
