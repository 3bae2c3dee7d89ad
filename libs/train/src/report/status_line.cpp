// SPDX-License-Identifier: Apache-2.0
#include "report/status_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace veomni {

void StepRate::update(int64_t step, double seconds) {
  if (step <= last_step_) return;
  const auto steps = static_cast<double>(step - last_step_);
  // A horizon of 20 steps follows a change of pace soon and yet does not flicker. Dividing by the summed weights keeps
  // the first steps from being drawn to zero.
  const double keep = std::pow(1.0 - 1.0 / 20, steps);
  weighted_ = keep * weighted_ + (1 - keep) * (seconds - last_seconds_) / steps;
  weight_ = keep * weight_ + (1 - keep);
  last_step_ = step;
  last_seconds_ = seconds;
}

std::optional<double> StepRate::seconds_for(int64_t steps) const {
  if (weight_ == 0) return std::nullopt;
  return std::max(0.0, weighted_ / weight_ * static_cast<double>(steps));
}

std::string clock_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "--:--:--";
  const auto whole = static_cast<int64_t>(std::min(std::round(seconds), 1e12));
  return fmt::format("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  const double size = std::abs(value);
  // The bounds are where rounding to the digits shown would carry over to the next unit.
  if (size < 999.5) return fmt::format("{:.0f}", value);
  const char* unit = "k";
  for (const char* next : {"M", "G", "T"}) {
    if (std::abs(value) < 999.95e3) break;
    value /= 1e3;
    unit = next;
  }
  const double scaled = value / 1e3;
  const int digits = std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", scaled, digits, unit);
}

namespace {

std::string loss_text(double loss) {
  return std::isfinite(loss) ? fmt::format("{:.4g}", loss) : fmt::format("{}", loss);
}

double fraction_done(const Status& status) {
  if (status.total_steps <= 0) return 0;
  return std::clamp(
      static_cast<double>(status.metrics.step) / static_cast<double>(status.total_steps), 0.0, 1.0);
}

std::string percent_text(const Status& status) {
  return fmt::format("{}%", std::floor(100 * fraction_done(status)));
}

std::string step_text(const Status& status) {
  return status.total_steps > 0 ? fmt::format("{}/{}", status.metrics.step, status.total_steps)
                                : fmt::format("{}", status.metrics.step);
}

std::string bar(double fraction, int columns) {
  std::string out;
  const auto full = static_cast<int>(std::floor(fraction * columns));
  for (int i = 0; i < columns; ++i) out += i < full ? "━" : "╌";
  return out;
}

struct Part {
  std::string text;
  int rank;  ///< the highest is the first to go where space is short
};

constexpr int kLeastBar = 8, kMostBar = 30;

std::vector<Part> parts_of(const Status& status) {
  const auto& m = status.metrics;
  std::vector<Part> parts;
  if (status.total_steps > 0) {
    parts.push_back({bar(fraction_done(status), kLeastBar), 4});
    parts.push_back({fmt::format("{:>4}", percent_text(status)), 2});
  }
  parts.push_back({step_text(status), 0});
  parts.push_back({"loss " + loss_text(m.loss), 1});
  if (std::isfinite(m.lr)) parts.push_back({fmt::format("lr {:.1e}", m.lr), 6});
  if (std::isfinite(m.tokens_per_second))
    parts.push_back({short_number(m.tokens_per_second) + " tok/s", 5});
  if (status.eta_seconds && status.total_steps > 0)
    parts.push_back({"ETA " + clock_text(*status.eta_seconds), 3});
  parts.push_back({clock_text(status.elapsed_seconds), 7});
  return parts;
}

std::string join_parts(const std::vector<Part>& parts) {
  std::string line;
  for (const auto& part : parts) line += (line.empty() ? "" : "  ") + part.text;
  return line;
}

}  // namespace

std::string status_line(const Status& status, int columns) {
  auto parts = parts_of(status);
  while (count_columns(join_parts(parts)) > columns && parts.size() > 1) {
    parts.erase(std::max_element(parts.begin(), parts.end(),
                                 [](const Part& a, const Part& b) { return a.rank < b.rank; }));
  }
  const bool has_bar = status.total_steps > 0 && parts.front().rank == 4;
  const int room = columns - count_columns(join_parts(parts));
  if (has_bar)
    parts.front().text = bar(fraction_done(status), std::min(kMostBar, kLeastBar + room));
  return std::string(cut_columns(join_parts(parts), columns));
}

std::string plain_line(const Status& status) {
  const auto& m = status.metrics;
  std::string line = "step " + step_text(status);
  if (status.total_steps > 0) line += " (" + percent_text(status) + ")";
  line += "  loss " + loss_text(m.loss);
  if (std::isfinite(m.lr)) line += fmt::format("  lr {:.2e}", m.lr);
  if (std::isfinite(m.tokens_per_second))
    line += "  " + short_number(m.tokens_per_second) + " tok/s";
  if (status.eta_seconds && status.total_steps > 0)
    line += "  ETA " + clock_text(*status.eta_seconds);
  return line + "  elapsed " + clock_text(status.elapsed_seconds);
}

namespace {
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }
}  // namespace

std::string_view cut_columns(std::string_view text, int columns) {
  int seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_continuation(text[i]) && seen++ == std::max(columns, 0)) return text.substr(0, i);
  }
  return text;
}

int count_columns(std::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

}  // namespace veomni
