// SPDX-License-Identifier: Apache-2.0
/// One op at one shape: how it is called here and in ATen, and how much work it is.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

namespace veomni::bench {

/// What an op returns: mostly one tensor.
struct Results : std::vector<torch::Tensor> {
  Results(torch::Tensor one)
      : vector{std::move(one)} {}  // NOLINT: implicit, for functions that return one
  using vector::vector;
};

/// The op over tensors of its own.
struct Built {
  std::function<Results()> forward;
  std::vector<torch::Tensor> leaves;  ///< what backward gives gradients of; none: no backward
};

/// What the result needs: 2 for a multiplication with its addition; every tensor read or written once.
struct Work {
  double flops_forward = 0, flops_backward = 0;
  double bytes_forward = 0, bytes_backward = 0;
};

struct OpCase {
  std::string op, shape;
  torch::ScalarType dtype;
  Work work;
  std::function<Built(bool ours)> build;
  bool whole = false;  ///< forward and backward are one: gradients are made in forward
};

/// Ops of a language model, and those beside it, in one dtype.
void add_language(std::vector<OpCase>& cases, torch::ScalarType dtype);
void add_media(std::vector<OpCase>& cases, torch::ScalarType dtype);

/// Random numbers around zero, the same at every call.
torch::Tensor random(torch::IntArrayRef sizes, torch::ScalarType dtype);
/// The same as a leaf. A weight of ours takes its gradient in float32, as in training; ATen's in its dtype.
torch::Tensor leaf(torch::IntArrayRef sizes, torch::ScalarType dtype);
torch::Tensor weight(torch::IntArrayRef sizes, torch::ScalarType dtype, bool ours);

}  // namespace veomni::bench
