// SPDX-License-Identifier: Apache-2.0
/// A fixed, ordered set of ranks that communicate: the one interface every backend implements in
/// full. (PyTorch calls such a thing a ProcessGroup.)
#pragma once

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "veomni/base/error.h"

namespace veomni {

enum class ReduceOp { kSum, kMax };

/// What pending and later calls throw once a group was aborted: by abort(), a time-out or a
/// mismatch.
class AbortedError : public Error {
 public:
  using Error::Error;
};

/// A call under way. Destroying it never waits and never communicates.
class Work {
 public:
  virtual ~Work() = default;

  /// Returns when this rank's part is done: outputs hold the result, inputs may be overwritten. A
  /// second wait returns at once.
  /// @param timeout  zero: the communicator's
  /// @throws veomni::Error naming rank, operation, sequence number and the ranks that had not
  ///     arrived
  /// @throws veomni::AbortedError once the group was aborted
  virtual void wait(std::chrono::milliseconds timeout = {}) = 0;
};
using WorkPtr = std::unique_ptr<Work>;

/// Contract, checked for every backend by the suite in comm/tests/contract.h:
///   - all ranks make the same calls in the same order; a call that differs between ranks
///     (operation, dtype, sizes) fails on all of them instead of hanging. Works may be waited for
///     in any order;
///   - tensors are contiguous; `in` and `out` have one dtype, except that a reduction may write a
///     wider `out`;
///   - reductions accumulate in fp32 (fp64 for fp64, int64 for integers) in rank order: the same
///     ranks give the same bits every time;
///   - empty tensors and size() == 1 are legal; the call then copies, or does nothing, but never
///     fails;
///   - inputs stay alive and unwritten, outputs unread, until Work::wait() returns. `out` may be
///     `in` (all_reduce), and `in` may be this rank's block of `out` (all_gather) or the reverse
///     (reduce_scatter); nothing else overlaps;
///   - memory is written underneath autograd: no op is recorded and no version counter moves;
///   - no destructor communicates.
/// One thread per rank. Not thread-safe otherwise, except abort().
class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// For messages: "world", or the mesh axis.
  virtual const std::string& name() const = 0;

  /// What wait() uses when it is given none.
  virtual std::chrono::milliseconds timeout() const = 0;

  /// out[...] = `op` over ranks of in[...].
  virtual WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) = 0;

  /// out = the concatenation over ranks, in rank order, of `in` (equal sizes everywhere): size() *
  /// numel(in) elements.
  WorkPtr all_gather(torch::Tensor out, torch::Tensor in);

  /// Several all_gathers as one call; outs[i] from ins[i]. Dtypes may differ between i.
  virtual WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                                       std::vector<torch::Tensor> ins) = 0;

  /// out = this rank's block of `op` over ranks of `in`: numel(in) / size() elements.
  WorkPtr reduce_scatter(torch::Tensor out, torch::Tensor in, ReduceOp op);
  virtual WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs,
                                           std::vector<torch::Tensor> ins, ReduceOp op) = 0;

  /// Rows of dim 0: in_splits[r] rows of `in`, in order, go to rank r; out_splits[r] rows of `out`
  /// come from rank r. Splits sum to dim 0. What r sends to s must be what s expects of r, or all
  /// ranks fail.
  virtual WorkPtr all_to_all(torch::Tensor out, torch::Tensor in, std::vector<int64_t> out_splits,
                             std::vector<int64_t> in_splits) = 0;

  /// `tensor` of every rank becomes that of `root`.
  virtual WorkPtr broadcast(torch::Tensor tensor, int root) = 0;

  virtual WorkPtr barrier() = 0;

  /// Ranks with equal `color` form a group, ordered by rank here. Every rank must call it; it
  /// waits.
  virtual std::shared_ptr<Communicator> split(int color, const std::string& name) = 0;

  /// Makes every pending and later call throw AbortedError(reason) on every rank of this job, in
  /// every group that comes from the same world. The first reason stays. Callable from any thread.
  virtual void abort(const std::string& reason) = 0;

  /// Memory that peers read where it lies, so that calls whose inputs are in it copy less. Results
  /// are the same bits, and any rank may have any input elsewhere. Lives as long as the communicator
  /// or anything allocated. nullptr: inputs' place makes no difference. Any thread.
  virtual c10::Allocator* window_allocator() { return nullptr; }
};

/// An uninitialised tensor in `group`'s window if it has one and `options` are of the CPU, else in
/// ordinary memory.
torch::Tensor empty_in_window(Communicator& group, torch::IntArrayRef sizes,
                              const torch::TensorOptions& options);

/// What a reduction accumulates in and may write: fp64 for fp64, fp32 for narrower floats, int64
/// for integers.
torch::ScalarType accumulate_dtype(torch::ScalarType dtype);

}  // namespace veomni
