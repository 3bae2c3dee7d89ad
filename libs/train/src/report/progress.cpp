// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "report/status_line.h"
#include "veomni/base/log.h"
#include "veomni/base/timer.h"

namespace veomni {

namespace {

bool is_terminal(int fd) {
  const char* kind = std::getenv("TERM");
  return ::isatty(fd) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

int terminal_columns(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// What cannot be shown is dropped: a closed terminal must not end a run.
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      return;
    }
  }
}

constexpr std::string_view kClearLine = "\r\x1b[K";
constexpr double kRedrawMs = 100;

}  // namespace

class Progress::Impl {
 public:
  explicit Impl(const ProgressOptions& options)
      : options_(options), terminal_(is_terminal(options.fd)), rate_(options.start_step) {
    if (terminal_) {
      before_ = log::set_sink(
          [this](log::Level level, const std::string& line) { log_line(level, line); });
    }
  }

  void update(const StepMetrics& metrics) {
    std::lock_guard lock(mutex_);
    const double seconds = run_.elapsed_ms() / 1e3;
    rate_.update(metrics.step, seconds);
    const bool first = !latest_;
    latest_ = metrics;
    const bool last = options_.total_steps > 0 && metrics.step >= options_.total_steps;
    shown_ = false;
    if (first || last || is_due(metrics.step)) show();
  }

  void finish() {
    {
      std::lock_guard lock(mutex_);
      if (finished_) return;
      finished_ = true;
      if (latest_ && (terminal_ || !shown_)) show();
      if (latest_ && terminal_) write_all(options_.fd, "\n");
    }
    // Outside our lock: the log calls its sink under a lock of its own.
    if (terminal_) log::set_sink(before_);
  }

 private:
  bool is_due(int64_t step) const {
    const double silent_ms = since_shown_.elapsed_ms();
    if (terminal_) return silent_ms >= kRedrawMs;
    return (options_.every_seconds > 0 && silent_ms >= 1e3 * options_.every_seconds) ||
           (options_.every_steps > 0 && step - shown_step_ >= options_.every_steps);
  }

  std::string current_text(int columns) const {
    Status status{*latest_, options_.total_steps, run_.elapsed_ms() / 1e3, {}};
    status.eta_seconds = rate_.seconds_for(options_.total_steps - latest_->step);
    return terminal_ ? status_line(status, columns) : plain_line(status);
  }

  void show() {
    if (terminal_) {
      // The last column stays free: a full line would make some terminals wrap.
      const std::string line = current_text(terminal_columns(options_.fd) - 1);
      write_all(options_.fd, "\r" + line + "\x1b[K");
    } else {
      write_all(options_.fd, current_text(0) + "\n");
    }
    shown_ = true;
    shown_step_ = latest_->step;
    since_shown_.restart();
  }

  void log_line(log::Level level, const std::string& line) {
    std::lock_guard lock(mutex_);
    if (finished_ || !latest_) {
      pass_on(level, line);
      return;
    }
    write_all(options_.fd, kClearLine);
    pass_on(level, line);
    show();
  }

  void pass_on(log::Level level, const std::string& line) {
    if (before_) {
      before_(level, line);
    } else {
      write_all(options_.fd, line + "\n");
    }
  }

  const ProgressOptions options_;
  const bool terminal_;
  log::Sink before_;
  std::mutex mutex_;
  Timer run_, since_shown_;
  StepRate rate_;
  std::optional<StepMetrics> latest_;
  int64_t shown_step_ = 0;
  bool shown_ = false;
  bool finished_ = false;
};

Progress::Progress(const ProgressOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Progress::~Progress() { finish(); }
void Progress::update(const StepMetrics& metrics) { impl_->update(metrics); }
void Progress::finish() { impl_->finish(); }

}  // namespace veomni
