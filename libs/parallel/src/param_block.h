// SPDX-License-Identifier: Apache-2.0
/// Parameters that are gathered and reduced as one buffer.
#pragma once

#include <cstdint>
#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/nn/parameter.h"

namespace veomni::parallel {

/// Where parameters lie in a buffer that is shared out evenly over ranks. Pure.
struct FlatGeometry {
  std::vector<int64_t> begins;  ///< each parameter's first element
  int64_t chunk = 0;            ///< elements of one rank; the buffer has as many for each
};
/// End to end, each at a multiple of 64 bytes, so that kernels find full parameters as aligned as in
/// memory of their own.
FlatGeometry flat_geometry(const std::vector<int64_t>& numels, int64_t element_size, int world);

/// What part of elements [begin, begin + numel) of a buffer lies in rank `rank`'s chunk: relative to
/// `begin`.
io::Slice part_of(int64_t begin, int64_t numel, int64_t chunk, int rank);

/// A buffer of equal chunks, one a rank. value() of each parameter views the gathered buffer; its
/// memory comes and goes, the tensors stay.
class ParamBlock {
 public:
  /// One parameter by rows, which is not a scalar. Sets its ShardSpec.
  ParamBlock(const nn::Parameter& parameter, int rank, int world, int replica);
  /// Parameters of one dtype end to end. Sets their ShardSpecs.
  ParamBlock(const std::vector<nn::Parameter>& parameters, int rank, int world, int replica);

  bool trains() const;
  int64_t chunk_numel() const { return chunk_; }
  int64_t full_bytes() const;

  /// Gives the buffer memory and puts this rank's chunk where a gather over `group` wants it.
  void allocate(Communicator& group);
  void release();
  torch::Tensor full() const { return buffer_; }  ///< [world * chunk]
  torch::Tensor chunk() const { return send_; }   ///< [chunk], this rank's

  /// This pass's gradients of the full parameters, removed from value(): [world * chunk] of `dtype`,
  /// where a sum over `group` wants them. Zero where none came.
  torch::Tensor take_gradients(torch::ScalarType dtype, Communicator& group);
  torch::ScalarType gradient_dtype() const;  ///< max(fp32, dtype)
  /// Adds [chunk] of sums to Parameter::grad() of each part. May keep it.
  void add_to_gradients(const torch::Tensor& sums);

  /// Sums of earlier passes that wait for the replicas; undefined: none.
  void defer(torch::Tensor sums);
  torch::Tensor take_deferred();

 private:
  struct Slot {
    nn::Parameter parameter;
    int64_t begin;  ///< in the buffer
    int64_t local;  ///< this rank's part, in its chunk
  };
  void add_slot(const nn::Parameter& parameter, int64_t begin, io::ShardSpec shard, int replica);
  void bind_values();
  bool sends_local() const;
  void move_local(c10::Allocator* window);

  int rank_, world_;
  int64_t chunk_ = 0;
  std::vector<Slot> slots_;
  torch::Tensor buffer_, send_, deferred_;
  const void* moved_ = nullptr;  ///< where move_local has put the local part
};

}  // namespace veomni::parallel
