// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/allocation_count.h"

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/graph_task.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "veomni/base/error.h"

namespace veomni::ops {
namespace {

thread_local int t_aten_depth = 0;
thread_local char t_identity;  // its address names the thread

constexpr int kDevices = 2;
int device_slot(c10::DeviceType device) {
  VEOMNI_CHECK(device == c10::kCPU || device == c10::kMeta,
               "AllocationCounter counts cpu and meta, not ", c10::DeviceTypeName(device));
  return device == c10::kCPU ? 0 : 1;
}

// The graph tasks whose nodes run on this thread now, innermost last (recompute runs a backward
// inside a node).
thread_local std::vector<int> t_node_tasks;

// Whether autograd itself is asking, to add up the gradients of a tensor used more than once. On
// the CPU it adds into one of them; on meta, which it takes for a tensor subclass, it always makes
// a third and drops the first.
bool is_gradient_sum() {
  const int task = torch::autograd::get_current_graph_task_id();
  if (task == -1) return false;
  if (t_node_tasks.empty() || t_node_tasks.back() != task) return true;  // between nodes
  const auto node = torch::autograd::get_current_node();
  return node && dynamic_cast<torch::autograd::AccumulateGrad*>(node.get()) != nullptr;
}

// Notes when a node of a backward graph begins and ends.
void watch_nodes() {
  const auto begin = [](const at::RecordFunction&) -> std::unique_ptr<at::ObserverContext> {
    t_node_tasks.push_back(torch::autograd::get_current_graph_task_id());
    return nullptr;
  };
  const auto end = [](const at::RecordFunction&, at::ObserverContext*) { t_node_tasks.pop_back(); };
  at::addGlobalCallback(
      at::RecordFunctionCallback(begin, end).scopes({at::RecordScope::BACKWARD_FUNCTION}));
}

struct Block {
  int64_t bytes;
  uint64_t number;  ///< blocks are numbered in the order they were asked for
  const void* thread;
  bool aten;
};

}  // namespace

struct AllocationCounter::Window {
  const void* thread = nullptr;  ///< null: all threads
  uint64_t first = 0;            ///< older blocks do not count
  AllocationStats own[kDevices], aten[kDevices];

  bool counts(const Block& block) const {
    return block.number >= first && (!thread || thread == block.thread);
  }
  AllocationStats& stats(int slot, bool is_aten) { return is_aten ? aten[slot] : own[slot]; }
};

namespace {

/// All counters and the blocks they may count. Never destroyed: tensors outlive main.
class Ledger {
 public:
  static Ledger& get() {
    static Ledger* ledger = new Ledger;
    return *ledger;
  }

  bool active() const { return active_.load(std::memory_order_relaxed); }

  void open(AllocationCounter::Window* window) {
    const std::lock_guard lock(mutex_);
    window->first = next_;
    windows_.push_back(window);
    active_ = true;
  }

  void close(AllocationCounter::Window* window) {
    const std::lock_guard lock(mutex_);
    windows_.erase(std::find(windows_.begin(), windows_.end(), window));
    active_ = !windows_.empty();
    if (windows_.empty()) {
      for (auto& blocks : blocks_) blocks.clear();
      any_blocks_ = false;
    }
  }

  void reset(AllocationCounter::Window* window) {
    const std::lock_guard lock(mutex_);
    window->first = next_;
    for (int slot = 0; slot < kDevices; ++slot) window->own[slot] = window->aten[slot] = {};
  }

  AllocationStats read(AllocationCounter::Window* window, int slot, bool aten) {
    const std::lock_guard lock(mutex_);
    return window->stats(slot, aten);
  }

  void allocated(int slot, const void* key, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (windows_.empty()) return;
    const bool gradient_sum = is_gradient_sum();
    const Block block{bytes, next_++, &t_identity, t_aten_depth > 0};
    blocks_[slot].insert_or_assign(key, block);
    any_blocks_ = true;
    for (auto* window : windows_) {
      if (!window->counts(block)) continue;
      AllocationStats& stats = window->stats(slot, block.aten);
      stats.live_bytes += bytes;
      // The summand that a sum replaces is freed at once: neither memory that was asked for nor a
      // peak.
      if (gradient_sum) continue;
      stats.total_bytes += bytes;
      stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
      ++stats.num_allocations;
    }
  }

  void freed(int slot, const void* key) {
    if (!any_blocks_.load(std::memory_order_relaxed)) return;
    const std::lock_guard lock(mutex_);
    const auto found = blocks_[slot].find(key);
    if (found == blocks_[slot].end()) return;
    for (auto* window : windows_) {
      if (window->counts(found->second))
        window->stats(slot, found->second.aten).live_bytes -= found->second.bytes;
    }
    blocks_[slot].erase(found);
  }

 private:
  std::mutex mutex_;
  std::atomic<bool> active_{false}, any_blocks_{false};
  uint64_t next_ = 0;
  std::vector<AllocationCounter::Window*> windows_;
  std::unordered_map<const void*, Block> blocks_[kDevices];
};

/// Counts around the CPU allocator that was there before. Its pointers keep context == data: oneDNN
/// takes scratch through raw_allocate, which insists on it. Blocks of the old allocator may be
/// freed here.
class CountingCpuAllocator final : public c10::Allocator {
 public:
  explicit CountingCpuAllocator(c10::Allocator* inner) : inner_(inner) {
    free_ = inner->raw_deleter();
  }

  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr data = inner_->allocate(bytes);
    if (bytes > 0 && Ledger::get().active())
      Ledger::get().allocated(0, data.get(), static_cast<int64_t>(bytes));
    const c10::Device device = data.device();
    void* pointer = data.release_context();
    return {pointer, pointer, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    inner_->copy_data(to, from, bytes);
  }

 private:
  static void release(void* pointer) {
    Ledger::get().freed(0, pointer);
    free_(pointer);
  }
  c10::Allocator* inner_;
  static inline c10::DeleterFnPtr free_ = nullptr;
};

/// meta blocks have no address; a token's address stands for one.
class CountingMetaAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(c10::kMeta);
    if (bytes == 0 || !Ledger::get().active()) return {nullptr, nullptr, &release, device};
    char* token = new char;
    Ledger::get().allocated(1, token, static_cast<int64_t>(bytes));
    return {nullptr, token, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}

 private:
  static void release(void* token) {
    if (!token) return;
    Ledger::get().freed(1, token);
    delete static_cast<char*>(token);
  }
};

void install_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    watch_nodes();
    c10::Allocator* inner = c10::GetAllocator(c10::kCPU);
    VEOMNI_CHECK(
        inner->raw_deleter() != nullptr,
        "AllocationCounter: the installed CPU allocator has no raw_deleter; it cannot be wrapped");
    constexpr uint8_t kPriority = 255;  // only higher or equal replaces
    c10::SetAllocator(c10::kCPU, new CountingCpuAllocator(inner), kPriority);
    c10::SetAllocator(c10::kMeta, new CountingMetaAllocator, kPriority);
  });
}

}  // namespace

AllocationCounter::AllocationCounter(Scope scope) : window_(new Window) {
  install_once();
  if (scope == Scope::kThread) window_->thread = &t_identity;
  Ledger::get().open(window_);
}

AllocationCounter::~AllocationCounter() {
  Ledger::get().close(window_);
  delete window_;
}

AllocationStats AllocationCounter::stats(c10::DeviceType device) const {
  return Ledger::get().read(window_, device_slot(device), false);
}
AllocationStats AllocationCounter::aten_stats(c10::DeviceType device) const {
  return Ledger::get().read(window_, device_slot(device), true);
}
void AllocationCounter::reset() { Ledger::get().reset(window_); }

AtenScope::AtenScope() { ++t_aten_depth; }
AtenScope::~AtenScope() { --t_aten_depth; }

}  // namespace veomni::ops
