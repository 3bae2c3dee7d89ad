// SPDX-License-Identifier: Apache-2.0
/// Where time goes: spans that any library marks and a profiler collects. Off unless start() was called; a span that is off
/// costs one relaxed load.
///
/// A thread writes into a ring of its own, without locks; one reader takes the spans out between steps. A ring that is full
/// drops what does not fit and counts it. Spans of one thread nest, since they are scopes.
///
/// Non-goals: sampling, counters of the processor, clocks of several hosts on one scale.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace veomni::trace {

enum class Category : uint8_t {
  kStep,        ///< a whole optimizer step
  kPhase,       ///< a part of it: data, forward, backward, …
  kUnit,        ///< a Unit's forward, recompute or backward; named by its path, `pass` says which
  kOp,          ///< an op of libs/ops, forward or backward
  kKernel,      ///< one launch of a kernel, with its floating-point operations where known
  kCollective,  ///< a collective while it runs, on whichever thread runs it
  kWait,        ///< a rank's own thread waiting for a collective
};
const char* name_of(Category category);

/// One span. Strings are literals or interned: they outlive everything.
struct Event {
  int64_t begin_ns = 0, end_ns = 0;  ///< steady clock
  const char* name = "";
  const char* pass = nullptr;   ///< kUnit: "forward", "recompute", "backward"
  const char* label = nullptr;  ///< kCollective: the unit it is made for
  const char* group = nullptr;  ///< kCollective: the communicator's name
  double flops = 0;             ///< kKernel; 0: not known
  int64_t bytes = 0;            ///< kCollective: of all inputs on this rank
  Category category = Category::kOp;
};

/// Spans a thread can hold between two calls of take(). About 9 MiB a recording thread.
inline constexpr size_t kCapacity = size_t{1} << 17;

namespace detail {
extern std::atomic<int> num_recording;
int64_t now_ns();
}  // namespace detail

/// Whether anything records.
inline bool on() { return detail::num_recording.load(std::memory_order_relaxed) > 0; }

/// Starts and stops recording in the whole process; calls are counted, as ranks may be threads.
void start();
void stop();

/// A string that lives as long as the process, for Event. Takes a lock: not for every span.
const char* intern(const std::string& text);

/// Adds a finished span to the calling thread's ring, whether or not anything records now.
void record(const Event& event);
/// The clock of Event.
inline int64_t now_ns() { return detail::now_ns(); }

/// Marks the time from construction to destruction, if recording was on at construction.
class Span {
 public:
  /// `name` and `pass` are literals or interned.
  explicit Span(Category category, const char* name, const char* pass = nullptr) {
    if (on()) [[unlikely]]
      begin(category, name, pass);
  }
  ~Span() {
    if (name_) [[unlikely]]
      end();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  /// Whether it records: what is only for the record need not be computed otherwise.
  bool active() const { return name_ != nullptr; }
  void set_flops(double flops) { flops_ = flops; }

 private:
  void begin(Category category, const char* name, const char* pass);
  void end();

  const char* name_ = nullptr;
  // Set by begin(): a span that is off shall not even clear them.
  const char* pass_;
  int64_t begin_ns_;
  double flops_;
  Category category_;
};

/// What one thread recorded, in the order in which spans ended.
struct ThreadEvents {
  int thread = 0;    ///< a number of its own in this process, from 1
  std::string name;  ///< as the system shows it
  std::vector<Event> events;
  int64_t num_dropped = 0;  ///< spans that did not fit since the last take
};

/// Takes out what the threads that work for `worker` (ThreadContext::worker) recorded since the last
/// call. One caller a worker at a time.
std::vector<ThreadEvents> take(int worker);

}  // namespace veomni::trace
