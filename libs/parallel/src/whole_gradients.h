// SPDX-License-Identifier: Apache-2.0
/// Gradients of parameters that every rank holds whole: summed one by one, or in buckets.
#pragma once

#include <memory>
#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/nn/parameter.h"

namespace veomni::parallel {

/// One parameter's gradient on its way to the sum.
struct WholeGradient {
  nn::Parameter parameter;
  torch::Tensor prior;     ///< summed earlier; undefined: none
  torch::Tensor gradient;  ///< this rank's, contiguous, in the dtype it travels in

  torch::ScalarType sum_dtype() const { return nn::wide_dtype(parameter.dtype()); }
  /// Makes prior + sum the parameter's gradient. May keep `sum`.
  void store(const torch::Tensor& sum);
};

/// Sums each on its own. Returns the sums, which are ready after the works.
std::vector<torch::Tensor> start_sums(std::vector<WholeGradient>& gradients, Communicator& group,
                                      std::vector<WorkPtr>& works);

/// Fills buckets in the order gradients come, and sums a bucket over its group as soon as it is full.
class GradientBuckets {
 public:
  /// Collective, in the order of the calls. The gradient's memory is given up when its bucket fills.
  void add(const std::shared_ptr<Communicator>& group, int64_t bucket_bytes,
           WholeGradient gradient);
  /// Sums what is left and waits for all: gradients are in their parameters. Returns the number of
  /// buckets since the last call.
  int64_t finish();

 private:
  struct Bucket {
    std::shared_ptr<Communicator> group;
    std::vector<WholeGradient> gradients;
    int64_t bytes = 0;
    torch::Tensor flat, sums;  // what is summed must live until the work is done
    WorkPtr work;

    bool takes(const std::shared_ptr<Communicator>& group, const WholeGradient& gradient) const;
    void start();
  };
  std::vector<Bucket> open_, started_;
};

}  // namespace veomni::parallel
