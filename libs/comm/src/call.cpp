// SPDX-License-Identifier: Apache-2.0
#include "call.h"

#include <cstring>
#include <numeric>

#include "reduce.h"

namespace veomni {

namespace {

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

/// FNV-1a over words.
class Digest {
 public:
  void add(int64_t word) { value_ = (value_ ^ static_cast<uint64_t>(word)) * 0x100000001b3u; }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

Signature::Shape shape_of(const torch::Tensor& in, const torch::Tensor& out) {
  Signature::Shape shape{};
  shape.in_dtype =
      static_cast<int8_t>(in.defined() ? in.scalar_type() : torch::ScalarType::Undefined);
  shape.out_dtype =
      static_cast<int8_t>(out.defined() ? out.scalar_type() : torch::ScalarType::Undefined);
  if (!in.defined()) return shape;
  const bool fits = in.dim() <= Signature::kMaxDim;
  shape.dim = static_cast<int8_t>(fits ? in.dim() : -1);
  if (!fits) shape.sizes[0] = in.numel();
  for (int64_t d = 0; fits && d < in.dim(); ++d) shape.sizes[d] = in.size(d);
  return shape;
}

/// "float", "c10::BFloat16": as libtorch writes them.
std::string dtype_name(int8_t dtype) {
  const auto type = static_cast<torch::ScalarType>(dtype);
  if (type == torch::ScalarType::Undefined) return "undefined";
  return std::string(caffe2::TypeMeta::fromScalarType(type).name());
}

}  // namespace

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

const char* wait_name_of(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce: return "wait all_reduce";
    case Operation::kAllGather: return "wait all_gather";
    case Operation::kReduceScatter: return "wait reduce_scatter";
    case Operation::kAllToAll: return "wait all_to_all";
    case Operation::kBroadcast: return "wait broadcast";
    case Operation::kBarrier: return "wait barrier";
    case Operation::kSplit: return "wait split";
  }
  return "?";
}

Signature sign(const Call& call) {
  Signature s{};
  s.operation = call.operation;
  s.reduce = call.reduce;
  s.root = call.root;
  s.color = call.color;
  s.num_tensors = static_cast<int32_t>(call.ins.size());
  Digest digest;
  digest.add(static_cast<int64_t>(call.operation));
  digest.add(static_cast<int64_t>(call.reduce));
  digest.add(call.root);
  digest.add(s.num_tensors);
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto& in = call.ins[i];
    const auto shape = shape_of(in, i < call.outs.size() ? call.outs[i] : torch::Tensor());
    if (i < Signature::kShown) s.shown[i] = shape;
    if (!in.defined()) continue;
    s.bytes += static_cast<int64_t>(in.nbytes());
    digest.add(shape.in_dtype);
    digest.add(shape.out_dtype);
    if (call.operation == Operation::kAllToAll) {
      // The rows' number may differ between ranks; their shape may not.
      for (int64_t d = 1; d < in.dim(); ++d) digest.add(in.size(d));
    } else {
      digest.add(in.numel());
    }
  }
  s.digest = digest.value();
  return s;
}

std::string describe(const Offer& offer) {
  const Signature& s = *offer.signature;
  std::string text = name_of(s.operation);
  if (reduces(s.operation)) text += s.reduce == ReduceOp::kSum ? "(sum)" : "(max)";
  for (int i = 0; i < s.num_tensors && i < Signature::kShown; ++i) {
    const auto& shape = s.shown[i];
    const c10::IntArrayRef sizes(shape.sizes, shape.dim < 0 ? 1 : shape.dim);
    text += detail::concat(i ? ", " : " ", dtype_name(shape.in_dtype), " ", sizes);
    if (shape.out_dtype != shape.in_dtype) text += " -> " + dtype_name(shape.out_dtype);
  }
  if (s.num_tensors > Signature::kShown)
    text += detail::concat(", … (", s.num_tensors, " tensors)");
  if (s.operation == Operation::kBroadcast) text += detail::concat(" from rank ", s.root);
  if (s.operation == Operation::kAllToAll && !offer.in_splits.empty()) {
    text +=
        detail::concat(" sending [", offer.in_splits, "] expecting [", offer.out_splits, "] rows");
  }
  return text;
}

std::string describe(const Call& call) {
  const Signature signature = sign(call);
  return describe(Offer{&signature, call.in_splits, call.out_splits});
}

std::string problem_of(const Call& call, int size, bool cpu_only) {
  if (call.outs.size() != call.ins.size()) return "the numbers of inputs and outputs differ";
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto& in = call.ins[i];
    const auto& out = call.outs[i];
    if (!in.defined() || !out.defined()) return "a tensor is undefined";
    if (!in.is_contiguous() || !out.is_contiguous())
      return "a tensor is not contiguous; call .contiguous() first";
    if (cpu_only && (!in.is_cpu() || !out.is_cpu()))
      return detail::concat("this backend takes CPU tensors only; got one on ",
                            in.is_cpu() ? out.device() : in.device());
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

bool agree(const Offer& a, int rank_a, const Offer& b, int rank_b) {
  if (a.signature->digest != b.signature->digest) return false;
  if (a.signature->operation != Operation::kAllToAll) return true;
  return a.in_splits[rank_b] == b.out_splits[rank_a] && b.in_splits[rank_a] == a.out_splits[rank_b];
}

std::string disagreement(const std::string& group, int64_t sequence, const Offer& a, int rank_a,
                         const Offer& b, int rank_b) {
  return detail::concat("ranks disagree on call #", sequence, " of '", group, "': rank ", rank_a,
                        " called ", describe(a), ", rank ", rank_b, " called ", describe(b));
}

int64_t row_bytes(const torch::Tensor& tensor) {
  int64_t bytes = tensor.element_size();
  for (int64_t size : tensor.sizes().slice(1)) bytes *= size;
  return bytes;
}

void copy_bytes(void* to, const void* from, int64_t bytes) {
  // In-place collectives name one place twice; memcpy may not be given that, nor null.
  if (bytes && to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
}

char* bytes_at(const torch::Tensor& tensor, int64_t offset) {
  return static_cast<char*>(tensor.data_ptr()) + offset;
}

}  // namespace veomni
