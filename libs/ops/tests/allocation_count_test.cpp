// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/allocation_count.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>

#include <thread>

#include "reference.h"
#include "veomni/ops/activation.h"
#include "veomni/ops/attention.h"
#include "veomni/ops/conv.h"
#include "veomni/ops/embedding.h"
#include "veomni/ops/group_norm.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/loss.h"
#include "veomni/ops/norm.h"
#include "veomni/ops/resample.h"
#include "veomni/ops/rope.h"
#include "veomni/ops/rows.h"
#include "veomni/ops/vq.h"

namespace veomni::ops::testing {
namespace {

TEST(AllocationCounter, CountsTotalLiveAndPeak) {
  for (const c10::DeviceType device : {c10::kCPU, c10::kMeta}) {
    const Tensor older = at::empty({1000}, at::device(device));
    const AllocationCounter counter;
    {
      const Tensor a = at::empty({100}, at::device(device).dtype(at::kFloat));
      const Tensor b = at::empty({7}, at::device(device).dtype(at::kBFloat16));
    }
    Tensor c = at::empty({50}, at::device(device).dtype(at::kDouble));
    AllocationStats stats = counter.stats(device);
    EXPECT_EQ(stats.total_bytes, 400 + 14 + 400);
    EXPECT_EQ(stats.peak_bytes, 414);
    EXPECT_EQ(stats.live_bytes, 400);
    EXPECT_EQ(stats.num_allocations, 3);
    c.reset();
    EXPECT_EQ(counter.stats(device).live_bytes, 0);
  }
}

TEST(AllocationCounter, IgnoresOlderBlocksAndNests) {
  auto outer = std::make_unique<AllocationCounter>();
  Tensor a = at::empty({100}, at::kByte);
  {
    const AllocationCounter inner;
    a.reset();
    EXPECT_EQ(inner.stats(c10::kCPU).live_bytes, 0);
    EXPECT_EQ(outer->stats(c10::kCPU).live_bytes, 0);
  }
  Tensor b = at::empty({100}, at::kByte);
  outer.reset();
  b.reset();  // after the last counter
  const AllocationCounter counter;
  Tensor c = at::empty({100}, at::kByte);
  EXPECT_EQ(counter.stats(c10::kCPU).live_bytes, 100);
}

TEST(AllocationCounter, SetsAtenScopeApart) {
  const AllocationCounter counter;
  Tensor a;
  {
    const AtenScope aten;
    a = at::empty({100}, at::kByte);
  }
  EXPECT_EQ(counter.stats(c10::kCPU).total_bytes, 0);
  EXPECT_EQ(counter.aten_stats(c10::kCPU).live_bytes, 100);
  a.reset();
  EXPECT_EQ(counter.aten_stats(c10::kCPU).live_bytes, 0);
  EXPECT_EQ(counter.stats(c10::kCPU).live_bytes, 0);
}

TEST(AllocationCounter, ThreadScopeFollowsItsThreadsBlocks) {
  const AllocationCounter all, mine(AllocationCounter::Scope::kThread);
  Tensor here = at::empty({100}, at::kByte);
  std::thread([&here] {
    const Tensor there = at::empty({30}, at::kByte);
    here.reset();
  }).join();
  EXPECT_EQ(all.stats(c10::kCPU).total_bytes, 130);
  EXPECT_EQ(mine.stats(c10::kCPU).total_bytes, 100);
  EXPECT_EQ(mine.stats(c10::kCPU).live_bytes, 0);
}

TEST(AllocationCounter, KeepsRawAllocationWorking) {
  c10::Allocator* allocator = c10::GetCPUAllocator();
  void* before = allocator->raw_allocate(64);
  void* during;
  {
    const AllocationCounter counter;
    during = allocator->raw_allocate(64);
    EXPECT_EQ(counter.stats(c10::kCPU).live_bytes, 64);
    allocator->raw_deallocate(before);
    EXPECT_EQ(counter.stats(c10::kCPU).live_bytes, 64);
  }
  allocator->raw_deallocate(during);
}

/// One op with everything it needs, on any device: index tensors stay on the CPU.
struct MemoryCase {
  std::string name;
  Tensors inputs;
  Op op;
};

std::vector<MemoryCase> memory_cases(int64_t tokens) {
  const Tensor ids = integers(tokens, 20, 1), some = integers(3, std::max<int64_t>(tokens, 1), 2);
  const Tensor first = at::zeros({1}, at::kLong);
  const Tensor weights = at::full({tokens}, 0.1, at::kDouble);
  const std::vector<int32_t> cu = {0, static_cast<int32_t>(tokens / 3),
                                   static_cast<int32_t>(tokens)};
  auto rope_op = [tokens](const Tensors& t) {
    const Tensor position = at::arange(tokens, at::kInt).to(t[0].device());
    return rope(t[0], rope_table(position, {1.0, 0.1, 0.01}, t[0].scalar_type()));
  };
  return {
      {"linear",
       {normal({tokens, 24}, 1), normal({40, 24}, 2), normal({40}, 3)},
       [](const Tensors& t) { return ops::linear(t[0], t[1], t[2]); }},
      {"strided linear",
       {normal({24, tokens}, 1), normal({40, 24}, 2)},
       [](const Tensors& t) { return ops::linear(t[0].t(), t[1]); }},
      {"embedding",
       {normal({20, 24}, 1)},
       [ids](const Tensors& t) { return ops::embedding(ids, t[0]); }},
      {"rms_norm",
       {normal({tokens, 2, 24}, 1), normal({24}, 2)},
       [](const Tensors& t) { return ops::rms_norm(t[0], t[1], 1e-6); }},
      {"layer_norm",
       {normal({tokens, 24}, 1), normal({24}, 2), normal({24}, 3)},
       [](const Tensors& t) { return ops::layer_norm(t[0], t[1], t[2], 1e-6); }},
      {"rope", {normal({tokens, 2, 8}, 1)}, rope_op},
      {"swiglu", {normal({tokens, 24}, 1)}, [](const Tensors& t) { return ops::swiglu(t[0]); }},
      {"gelu", {normal({tokens, 24}, 1)}, [](const Tensors& t) { return ops::gelu(t[0], true); }},
      {"silu", {normal({tokens, 24}, 1)}, [](const Tensors& t) { return ops::silu(t[0]); }},
      {"gather_rows",
       {normal({tokens, 24}, 1)},
       [some](const Tensors& t) { return gather_rows(t[0], some); }},
      {"put_rows",
       {normal({tokens, 24}, 1), normal({1, 24}, 2)},
       [first](const Tensors& t) { return put_rows(t[0], first, t[1]); }},
      {"add_rows",
       {normal({tokens, 24}, 1), normal({3, 24}, 2)},
       [some](const Tensors& t) { return add_rows(t[0], some, t[1]); }},
      {"conv2d",
       {normal({tokens, 5, 6, 4}, 1), normal({8, 4, 3, 3}, 2), normal({8}, 3)},
       [](const Tensors& t) {
         return ops::conv2d(t[0], t[1], t[2], {1, 1, 1, 1, 1, 1});
       }},
      {"strided conv2d",
       {normal({tokens, 5, 6, 4}, 1), normal({8, 4, 3, 3}, 2), normal({8}, 3)},
       [](const Tensors& t) {
         return ops::conv2d(t[0], t[1], t[2], {2, 1, 1, 1, 1, 1});
       }},
      {"pointwise conv2d",
       {normal({tokens, 5, 6, 4}, 1), normal({8, 4, 1, 1}, 2), normal({8}, 3)},
       [](const Tensors& t) { return ops::conv2d(t[0], t[1], t[2]); }},
      {"group_norm",
       {normal({tokens, 3, 2, 24}, 1), normal({24}, 2), normal({24}, 3)},
       [](const Tensors& t) { return ops::group_norm(t[0], t[1], t[2], 8, 1e-6, true); }},
      {"upsample_nearest2x",
       {normal({tokens, 3, 2, 8}, 1)},
       [](const Tensors& t) { return upsample_nearest2x(t[0]); }},
      {"center_rows",
       {normal({tokens, 3, 8}, 1)},
       [](const Tensors& t) { return center_rows(t[0]); }},
      {"mean_pairs",
       {normal({2 * tokens, 8}, 1)},
       [](const Tensors& t) { return mean_pairs(t[0]); }},
      {"l2_normalize, nearest_code",
       {normal({tokens, 8}, 1), normal({70, 8}, 2)},
       [](const Tensors& t) {
         nearest_code(t[0], t[1]);
         return squared_error(l2_normalize(t[0]), t[1].slice(0, 0, 1).expand_as(t[0]), 0.5);
       }},
      {"absolute_error",
       {normal({tokens, 8}, 1), normal({tokens, 8}, 2)},
       [](const Tensors& t) { return absolute_error(t[0], t[1], 0.5); }},
      {"varlen_attention",
       {normal({tokens, 4, 16}, 1), normal({tokens, 2, 16}, 2), normal({tokens, 2, 24}, 3),
        normal({4}, 4)},
       [cu](const Tensors& t) {
         AttentionSpec spec{0.3};
         spec.sinks_H = t[3];
         return varlen_attention(t[0], t[1], t[2], cu, cu, spec).out_THK;
       }},
      {"linear_cross_entropy",
       {normal({tokens, 24}, 1), normal({20, 24}, 2)},
       [ids, weights](const Tensors& t) {
         return linear_cross_entropy(t[0], t[1], ids, weights, 16).total;
       }},
  };
}

/// What forward and backward take on `device`, besides ATen's own temporaries.
AllocationStats measure(const MemoryCase& c, at::ScalarType dtype, c10::DeviceType device) {
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // makes tensors of its own
  Tensors inputs;
  for (const Tensor& value : c.inputs) {
    inputs.push_back(device == c10::kMeta
                         ? at::empty(value.sizes(), at::device(device).dtype(dtype))
                         : value.to(dtype).clone());
    inputs.back().set_requires_grad(true);
    inputs.back().set_grad_dtype(dtype == at::kDouble ? at::kDouble : at::kFloat);
  }
  const AllocationCounter counter;
  const Tensor y = c.op(inputs);
  const Tensor cotangent = y.dim() == 0 ? Tensor() : at::ones(y.sizes(), y.options());
  torch::autograd::backward({y}, {cotangent});
  at::globalContext().setDeterministicFillUninitializedMemory(true);
  return counter.stats(device);
}

TEST(Memory, MetaTakesTheSameBytesAsTheCpu) {
  for (const char* backend : {"auto", "own", "onednn", "blas"}) {
    set_linear_backend(backend);
    for (const int64_t tokens : {1, 33, 100}) {
      for (const MemoryCase& c : memory_cases(tokens)) {
        for (const at::ScalarType dtype : kDtypes) {
          SCOPED_TRACE(c.name + ", " + std::to_string(tokens) + " tokens, " + c10::toString(dtype) +
                       ", " + backend);
          const AllocationStats cpu = measure(c, dtype, c10::kCPU),
                                meta = measure(c, dtype, c10::kMeta);
          EXPECT_GT(cpu.total_bytes, 0);
          EXPECT_EQ(cpu.total_bytes, meta.total_bytes);
          EXPECT_EQ(cpu.peak_bytes, meta.peak_bytes);
          EXPECT_EQ(cpu.live_bytes, meta.live_bytes);
        }
      }
    }
  }
  set_linear_backend("auto");
}

// The bytes of the head's loss do not depend on which labels count.
TEST(Memory, LossTakesTheSameBytesWhateverIsCounted) {
  MemoryCase all{"all", {normal({100, 24}, 1), normal({20, 24}, 2)}, {}}, few = all;
  Tensor labels = integers(100, 20, 1);
  const Tensor weights = at::ones({100}, at::kDouble);
  all.op = [labels, weights](const Tensors& t) {
    return linear_cross_entropy(t[0], t[1], labels, weights, 16).total;
  };
  Tensor sparse = labels.clone();
  sparse.slice(0, 0, 90, 2).fill_(kIgnoreLabel);
  few.op = [sparse, weights](const Tensors& t) {
    return linear_cross_entropy(t[0], t[1], sparse, weights, 16).total;
  };
  const AllocationStats a = measure(all, at::kDouble, c10::kCPU),
                        b = measure(few, at::kDouble, c10::kCPU);
  EXPECT_EQ(a.peak_bytes, b.peak_bytes);
  // 100 losses, indices and labels; 16 rows of x, dx and logits; both gradients; the scalar and its
  // gradient.
  EXPECT_LE(a.peak_bytes, 8 * (3 * 100 + 16 * (24 + 24 + 20) + 100 * 24 + 20 * 24 + 2) +
                              8 * ((24 + 256) * 24 + 24 * 32 * 8));
}

// One set of inputs through every op: what would move if any drew from ATen's generator.
TEST(Randomness, NoOpMovesTheDefaultGenerator) {
  const Tensor before = at::globalContext().defaultGenerator(c10::kCPU).get_state();
  for (const MemoryCase& c : memory_cases(33)) {
    for (const at::ScalarType dtype : kDtypes) measure(c, dtype, c10::kCPU);
  }
  EXPECT_TRUE(at::equal(before, at::globalContext().defaultGenerator(c10::kCPU).get_state()));
}

}  // namespace
}  // namespace veomni::ops::testing
