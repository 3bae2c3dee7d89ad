// SPDX-License-Identifier: Apache-2.0
#include "flight.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "veomni/base/trace.h"
#include "watchdog.h"

namespace veomni {

namespace {

using Clock = std::chrono::steady_clock;
// A call reports its own time-out with more detail; the watchdog is for one that is stuck.
constexpr int64_t kGraceNanoseconds = 1'000'000'000;

thread_local const char* current_label = "";

int64_t nanoseconds_of(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}
int64_t now_ns() { return nanoseconds_of(Clock::now()); }

template <size_t N> void copy_text(char (&to)[N], const char* from) {
  const size_t length = std::min(std::strlen(from), N - 1);
  std::memcpy(to, from, length);
  to[length] = 0;
}

const char* name_of(Flight::State state) {
  switch (state) {
    case Flight::State::kEmpty: return "empty";
    case Flight::State::kEnqueued: return "enqueued";
    case Flight::State::kStarted: return "started";
    case Flight::State::kDone: return "done";
    case Flight::State::kFailed: return "failed";
  }
  return "?";
}

/// "-12.345 s", or "-" for what has not happened. Into `text`.
void age(char (&text)[24], int64_t then, int64_t now) {
  if (then == 0) {
    std::snprintf(text, sizeof text, "-");
  } else {
    std::snprintf(text, sizeof text, "-%" PRId64 ".%03" PRId64 " s", (now - then) / 1'000'000'000,
                  (now - then) / 1'000'000 % 1000);
  }
}

bool put(int file, const char* text, size_t length) {
  while (length > 0) {
    const ssize_t written = ::write(file, text, length);
    if (written <= 0) return false;
    text += written;
    length -= static_cast<size_t>(written);
  }
  return true;
}

/// The call as a span of the thread that ran it.
void trace_call(const Flight::Entry& entry) {
  trace::Event event;
  event.begin_ns = entry.started.load(std::memory_order_relaxed);
  event.end_ns = trace::now_ns();
  event.category = trace::Category::kCollective;
  event.name = veomni::name_of(entry.signature.operation);
  event.label = entry.label[0] ? trace::intern(entry.label) : nullptr;
  event.group = trace::intern(entry.group);
  event.bytes = entry.signature.bytes;
  trace::record(event);
}

}  // namespace

CallLabel::CallLabel(const std::string& label) : before_(current_label) {
  current_label = label.c_str();
}
CallLabel::~CallLabel() { current_label = before_; }

Flight::Flight(int rank, std::function<void(const std::string& reason)> abort)
    : rank_(rank), abort_(std::move(abort)) {
  watch_flight(this);
}

Flight::~Flight() { unwatch_flight(this); }

Flight::Ticket Flight::record(const Signature& signature, const std::string& group,
                              int64_t sequence) {
  const int64_t number = next_.load(std::memory_order_relaxed);
  Entry& entry = ring_[static_cast<size_t>(number) % kEntries];
  entry.ticket.store(-1, std::memory_order_release);  // late news of the call before finds nothing
  entry.state.store(State::kEnqueued, std::memory_order_relaxed);
  entry.enqueued.store(now_ns(), std::memory_order_relaxed);
  entry.started.store(0, std::memory_order_relaxed);
  entry.ended.store(0, std::memory_order_relaxed);
  entry.overdue.store(0, std::memory_order_relaxed);
  entry.sequence = sequence;
  entry.signature = signature;
  copy_text(entry.group, group.c_str());
  copy_text(entry.label, current_label);
  entry.ticket.store(number, std::memory_order_release);
  next_.store(number + 1, std::memory_order_release);
  return {this, number};
}

Flight::Entry* Flight::Ticket::entry() const {
  if (!flight) return nullptr;
  Entry& entry = flight->ring_[static_cast<size_t>(number) % kEntries];
  return entry.ticket.load(std::memory_order_acquire) == number ? &entry : nullptr;
}

void Flight::Ticket::start(Clock::time_point deadline) const {
  Entry* e = entry();
  if (!e) return;
  e->started.store(now_ns(), std::memory_order_relaxed);
  e->state.store(State::kStarted, std::memory_order_relaxed);
  set_deadline(deadline);
}

void Flight::Ticket::set_deadline(Clock::time_point deadline) const {
  Entry* e = entry();
  if (e && e->state.load(std::memory_order_relaxed) == State::kStarted)
    e->overdue.store(nanoseconds_of(deadline) + kGraceNanoseconds, std::memory_order_relaxed);
}

void Flight::Ticket::end(bool failed) const {
  Entry* e = entry();
  if (!e) return;
  if (trace::on()) trace_call(*e);
  e->overdue.store(0, std::memory_order_relaxed);
  e->ended.store(now_ns(), std::memory_order_relaxed);
  e->state.store(failed ? State::kFailed : State::kDone, std::memory_order_relaxed);
}

std::string Flight::Ticket::by() const {
  const Entry* e = entry();
  return e && e->label[0] ? detail::concat(" of ", e->label) : "";
}

void Flight::watch() {
  if (!abort_) return;
  const int64_t now = now_ns();
  for (const Entry& entry : ring_) {
    const int64_t overdue = entry.overdue.load(std::memory_order_relaxed);
    if (overdue == 0 || now < overdue || reported_) continue;
    const int64_t limit = overdue - kGraceNanoseconds - entry.started.load();
    const std::string by = entry.label[0] ? detail::concat(" of ", entry.label) : "";
    reported_ = true;
    abort_(detail::concat("watchdog: ", describe(Offer{&entry.signature, {}, {}}), " #",
                          entry.sequence, " on '", entry.group, "'", by, " did not end within ",
                          (limit + 500'000) / 1'000'000, " ms"));
  }
}

void Flight::write_entry(int file, const Entry& entry, int64_t now) const noexcept {
  char enqueued[24], started[24], ended[24], line[640];
  age(enqueued, entry.enqueued.load(), now);
  age(started, entry.started.load(), now);
  age(ended, entry.ended.load(), now);
  const auto& s = entry.signature;
  int length =
      std::snprintf(line, sizeof line, "%6" PRId64 " %-20s #%-7" PRId64 " %-14s ",
                    entry.ticket.load(), entry.group, entry.sequence, veomni::name_of(s.operation));
  for (int i = 0; i < std::min(s.num_tensors, Signature::kShown); ++i) {
    const auto& shape = s.shown[i];
    length += std::snprintf(line + length, sizeof line - length, "%s%s[", i ? "," : "",
                            c10::toString(static_cast<torch::ScalarType>(shape.in_dtype)));
    for (int d = 0; d < std::max<int>(shape.dim, shape.dim < 0 ? 1 : 0); ++d)
      length += std::snprintf(line + length, sizeof line - length, "%s%" PRId64, d ? "," : "",
                              shape.sizes[d]);
    length += std::snprintf(line + length, sizeof line - length, "]");
  }
  length += std::snprintf(
      line + length, sizeof line - length,
      "%s %" PRId64 " bytes  %s  %s: enqueued %s, started %s, ended %s\n",
      s.num_tensors > Signature::kShown ? ",…" : "", s.bytes, entry.label[0] ? entry.label : "-",
      name_of(entry.state.load(std::memory_order_relaxed)), enqueued, started, ended);
  put(file, line, std::min<size_t>(static_cast<size_t>(length), sizeof line - 1));
}

bool Flight::write(const char* path) const noexcept {
  const int file = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return false;
  char head[200];
  const int64_t next = next_.load(std::memory_order_acquire);
  const int length = std::snprintf(head, sizeof head,
                                   "# rank %d made %" PRId64
                                   " calls; the last, times before this was written\n"
                                   "# call group #number operation tensors bytes label state\n",
                                   rank_, next);
  bool good = put(file, head, static_cast<size_t>(length));
  const int64_t now = now_ns();
  for (int64_t n = std::max<int64_t>(0, next - static_cast<int64_t>(kEntries)); n < next; ++n)
    write_entry(file, ring_[static_cast<size_t>(n) % kEntries], now);
  good = ::close(file) == 0 && good;
  return good;
}

}  // namespace veomni
