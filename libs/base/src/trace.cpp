// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/trace.h"

#include <pthread.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <type_traits>
#include <unordered_set>

#include "veomni/base/context.h"

namespace veomni::trace {

namespace {

static_assert(std::is_trivially_destructible_v<Event>);

/// One producer, its thread; one consumer, take(). `head` and `tail` only grow.
struct Ring {
  Ring(int worker, int thread) : worker(worker), thread(thread) {
    char text[16] = "";
    pthread_getname_np(pthread_self(), text, sizeof text);
    name = text;
  }
  ~Ring() { std::allocator<Event>().deallocate(slots, kCapacity); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  const int worker, thread;
  std::string name;
  /// Raw memory: clearing it would take milliseconds of the first step that is recorded.
  Event* const slots = std::allocator<Event>().allocate(kCapacity);
  std::atomic<size_t> head{0}, tail{0};
  std::atomic<int64_t> dropped{0};
};

struct Registry {
  std::mutex mutex;
  std::vector<std::shared_ptr<Ring>> rings;
  int num_threads = 0;
  std::unordered_set<std::string> strings;
};

// Leaked: threads may record while the process ends.
Registry& registry() {
  static auto* all = new Registry;
  return *all;
}

std::shared_ptr<Ring> make_ring(int worker) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.rings.push_back(std::make_shared<Ring>(worker, ++all.num_threads));
  return all.rings.back();
}

void take_from(Ring& ring, std::vector<ThreadEvents>& taken) {
  const size_t head = ring.head.load(std::memory_order_acquire);
  size_t tail = ring.tail.load(std::memory_order_relaxed);
  ThreadEvents events{ring.thread, ring.name, {}, ring.dropped.exchange(0)};
  events.events.reserve(head - tail);
  for (; tail != head; ++tail) events.events.push_back(ring.slots[tail % kCapacity]);
  ring.tail.store(tail, std::memory_order_release);
  if (!events.events.empty() || events.num_dropped) taken.push_back(std::move(events));
}

}  // namespace

namespace detail {

std::atomic<int> num_recording{0};

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace detail

const char* name_of(Category category) {
  switch (category) {
    case Category::kStep: return "step";
    case Category::kPhase: return "phase";
    case Category::kUnit: return "unit";
    case Category::kOp: return "op";
    case Category::kKernel: return "kernel";
    case Category::kCollective: return "collective";
    case Category::kWait: return "wait";
  }
  return "?";
}

void start() { detail::num_recording.fetch_add(1); }
void stop() { detail::num_recording.fetch_sub(1); }

const char* intern(const std::string& text) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  return all.strings.insert(text).first->c_str();  // nodes do not move
}

void record(const Event& event) {
  thread_local std::shared_ptr<Ring> ring;
  if (const int worker = thread_context().worker; !ring || ring->worker != worker)
    ring = make_ring(worker);
  const size_t head = ring->head.load(std::memory_order_relaxed);
  if (head - ring->tail.load(std::memory_order_acquire) == kCapacity) {
    ring->dropped.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  std::construct_at(&ring->slots[head % kCapacity], event);
  ring->head.store(head + 1, std::memory_order_release);
}

void Span::begin(Category category, const char* name, const char* pass) {
  name_ = name;
  pass_ = pass;
  category_ = category;
  flops_ = 0;
  begin_ns_ = now_ns();
}

void Span::end() {
  record({.begin_ns = begin_ns_,
          .end_ns = now_ns(),
          .name = name_,
          .pass = pass_,
          .flops = flops_,
          .category = category_});
}

std::vector<ThreadEvents> take(int worker) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  std::vector<ThreadEvents> taken;
  std::erase_if(all.rings, [&](const std::shared_ptr<Ring>& ring) {
    if (ring->worker != worker) return false;
    const bool ended = ring.use_count() == 1;  // before its last spans are read
    std::atomic_thread_fence(std::memory_order_acquire);
    take_from(*ring, taken);
    return ended;
  });
  return taken;
}

}  // namespace veomni::trace
