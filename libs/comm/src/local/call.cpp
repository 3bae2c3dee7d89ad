// SPDX-License-Identifier: Apache-2.0
#include "local/call.h"

#include <cstring>
#include <numeric>

#include "reduce.h"

namespace veomni::local {

namespace {

const char* name_of(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce: return "all_reduce";
    case Operation::kAllGather: return "all_gather";
    case Operation::kReduceScatter: return "reduce_scatter";
    case Operation::kAllToAll: return "all_to_all";
    case Operation::kBroadcast: return "broadcast";
    case Operation::kBarrier: return "barrier";
    case Operation::kSplit: return "split";
  }
  return "?";
}

bool reduces(Operation operation) {
  return operation == Operation::kAllReduce || operation == Operation::kReduceScatter;
}

/// Elements of `out` for one element-count of `in`.
bool sizes_fit(const Call& call, int64_t out, int64_t in, int size) {
  switch (call.operation) {
    case Operation::kAllGather: return out == in * size;
    case Operation::kReduceScatter: return in == out * size;
    case Operation::kAllToAll: return true;
    default: return in == out;
  }
}

int64_t sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

int64_t row_bytes(const torch::Tensor& tensor) {
  const int64_t rows = tensor.size(0);
  return rows ? static_cast<int64_t>(tensor.nbytes()) / rows : 0;
}

std::string problem_of_splits(const Call& call, int size) {
  const auto& in = call.ins[0];
  const auto& out = call.outs[0];
  if (in.dim() == 0 || out.dim() == 0) return "all_to_all needs tensors with rows";
  if (in.sizes().slice(1) != out.sizes().slice(1)) return "rows of in and out differ in shape";
  if (static_cast<int>(call.in_splits.size()) != size ||
      static_cast<int>(call.out_splits.size()) != size) {
    return "needs one split per rank";
  }
  for (const auto* splits : {&call.in_splits, &call.out_splits}) {
    for (int64_t rows : *splits) {
      if (rows < 0) return "a split is negative";
    }
  }
  if (sum(call.in_splits) != in.size(0) || sum(call.out_splits) != out.size(0)) {
    return "splits do not sum to the number of rows";
  }
  return "";
}

void copy_bytes(void* to, const void* from, int64_t bytes) {
  // In-place collectives name one place twice; memcpy may not be given that, nor null.
  if (bytes && to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
}

char* bytes_at(const torch::Tensor& tensor, int64_t offset) {
  return static_cast<char*>(tensor.data_ptr()) + offset;
}

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

std::string describe(const Call& call) {
  std::string text = name_of(call.operation);
  if (reduces(call.operation)) text += call.reduce == ReduceOp::kSum ? "(sum)" : "(max)";
  for (size_t i = 0; i < call.ins.size() && i < 4; ++i) {
    text += detail::concat(i ? ", " : " ", call.ins[i].dtype().name(), " ", call.ins[i].sizes());
    if (call.outs[i].dtype() != call.ins[i].dtype())
      text += detail::concat(" -> ", call.outs[i].dtype().name());
  }
  if (call.ins.size() > 4) text += detail::concat(", … (", call.ins.size(), " tensors)");
  if (call.operation == Operation::kBroadcast) text += detail::concat(" from rank ", call.root);
  if (call.operation == Operation::kAllToAll) {
    text += detail::concat(" sending [", c10::IntArrayRef(call.in_splits), "] expecting [",
                           c10::IntArrayRef(call.out_splits), "] rows");
  }
  return text;
}

std::string problem_of(const Call& call, int size) {
  if (call.outs.size() != call.ins.size()) return "the numbers of inputs and outputs differ";
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto& in = call.ins[i];
    const auto& out = call.outs[i];
    if (!in.defined() || !out.defined()) return "a tensor is undefined";
    if (!in.is_contiguous() || !out.is_contiguous())
      return "a tensor is not contiguous; call .contiguous() first";
    if (!in.is_cpu() || !out.is_cpu()) return "backend local takes CPU tensors only";
    if (reduces(call.operation)) {
      if (!can_reduce(in.scalar_type(), out.scalar_type())) {
        return detail::concat("cannot reduce ", in.scalar_type(), " into ", out.scalar_type());
      }
    } else if (in.scalar_type() != out.scalar_type()) {
      return "in and out differ in dtype";
    }
    if (!sizes_fit(call, out.numel(), in.numel(), size)) {
      return detail::concat("out of ", out.numel(), " elements does not fit in of ", in.numel(),
                            " for ", size, " ranks");
    }
  }
  if (call.operation == Operation::kAllToAll) return problem_of_splits(call, size);
  if (call.root < 0 || call.root >= size) return detail::concat("there is no rank ", call.root);
  return "";
}

bool agree(const Call& a, int rank_a, const Call& b, int rank_b) {
  if (a.operation != b.operation || a.reduce != b.reduce || a.root != b.root ||
      a.ins.size() != b.ins.size()) {
    return false;
  }
  for (size_t i = 0; i < a.ins.size(); ++i) {
    if (a.ins[i].scalar_type() != b.ins[i].scalar_type() ||
        a.outs[i].scalar_type() != b.outs[i].scalar_type()) {
      return false;
    }
    if (a.operation == Operation::kAllToAll) {
      const bool fits = a.in_splits[rank_b] == b.out_splits[rank_a] &&
                        b.in_splits[rank_a] == a.out_splits[rank_b];
      if (!fits || a.ins[i].sizes().slice(1) != b.ins[i].sizes().slice(1)) return false;
    } else if (a.ins[i].numel() != b.ins[i].numel()) {
      return false;
    }
  }
  return true;
}

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
