// SPDX-License-Identifier: Apache-2.0
#include "local/execute.h"

#include <numeric>

#include "reduce.h"

namespace veomni::local {

namespace {

/// Each rank reduces one stretch of elements and writes it to every rank: no element is summed
/// twice, and none is read by a rank after another has overwritten it.
void execute_all_reduce(const std::vector<Call>& calls, int rank) {
  const auto& mine = calls[rank];
  const int64_t numel = mine.ins[0].numel(), size = static_cast<int64_t>(calls.size());
  const int64_t begin = numel * rank / size, length = numel * (rank + 1) / size - begin;
  if (length == 0) return;
  std::vector<const void*> ins;
  for (const auto& call : calls)
    ins.push_back(bytes_at(call.ins[0], begin * call.ins[0].element_size()));
  const int64_t out_size = mine.outs[0].element_size();
  char* out = bytes_at(mine.outs[0], begin * out_size);
  reduce_buffers(out, mine.outs[0].scalar_type(), ins, mine.ins[0].scalar_type(), length,
                 mine.reduce);
  for (const auto& call : calls)
    copy_bytes(bytes_at(call.outs[0], begin * out_size), out, length * out_size);
}

void execute_all_gather(const std::vector<Call>& calls, int rank) {
  for (size_t i = 0; i < calls[rank].outs.size(); ++i) {
    const auto& out = calls[rank].outs[i];
    const int64_t bytes = static_cast<int64_t>(calls[rank].ins[i].nbytes());
    for (size_t r = 0; bytes && r < calls.size(); ++r) {
      copy_bytes(bytes_at(out, static_cast<int64_t>(r) * bytes), calls[r].ins[i].data_ptr(), bytes);
    }
  }
}

void execute_reduce_scatter(const std::vector<Call>& calls, int rank) {
  for (size_t i = 0; i < calls[rank].outs.size(); ++i) {
    const auto& out = calls[rank].outs[i];
    const auto& in = calls[rank].ins[i];
    if (out.numel() == 0) continue;
    std::vector<const void*> ins;
    for (const auto& call : calls)
      ins.push_back(bytes_at(call.ins[i], rank * out.numel() * in.element_size()));
    reduce_buffers(out.data_ptr(), out.scalar_type(), ins, in.scalar_type(), out.numel(),
                   calls[rank].reduce);
  }
}

void execute_all_to_all(const std::vector<Call>& calls, int rank) {
  const auto& mine = calls[rank];
  const int64_t bytes = row_bytes(mine.outs[0]);
  int64_t to = 0;
  for (const auto& call : calls) {
    const int64_t from =
        std::accumulate(call.in_splits.begin(), call.in_splits.begin() + rank, int64_t{0});
    const int64_t rows = call.in_splits[rank];
    if (rows && bytes)
      copy_bytes(bytes_at(mine.outs[0], to * bytes), bytes_at(call.ins[0], from * bytes),
                 rows * bytes);
    to += rows;
  }
}

void execute_broadcast(const std::vector<Call>& calls, int rank) {
  const auto& root = calls[calls[rank].root].ins[0];
  if (root.numel())
    copy_bytes(calls[rank].outs[0].data_ptr(), root.data_ptr(),
               static_cast<int64_t>(root.nbytes()));
}

}  // namespace

void execute(const std::vector<Call>& calls, int rank) {
  switch (calls[rank].operation) {
    case Operation::kAllReduce: return execute_all_reduce(calls, rank);
    case Operation::kAllGather: return execute_all_gather(calls, rank);
    case Operation::kReduceScatter: return execute_reduce_scatter(calls, rank);
    case Operation::kAllToAll: return execute_all_to_all(calls, rank);
    case Operation::kBroadcast: return execute_broadcast(calls, rank);
    case Operation::kBarrier:
    case Operation::kSplit: return;
  }
}

}  // namespace veomni::local
