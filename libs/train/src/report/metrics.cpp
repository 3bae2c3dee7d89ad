// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/metrics.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "report/append_file.h"
#include "veomni/base/error.h"

namespace veomni {

namespace {

using Json = nlohmann::ordered_json;

/// Names the fields in the file's order, for writing and reading alike.
template <typename Visitor, typename Metrics> void visit_columns(Visitor&& v, Metrics& m) {
  v("step", m.step);
  v("loss", m.loss);
  v("grad_norm", m.grad_norm);
  v("lr", m.lr);
  v("tokens", m.tokens);
  v("tokens_per_second", m.tokens_per_second);
  v("step_ms", m.step_ms);
  v("mfu", m.mfu);
  v("peak_rss_mib", m.peak_rss_mib);
}

Json number(int64_t value) { return value; }
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

void assign(const Json& value, int64_t& out) { out = value.get<int64_t>(); }
void assign(const Json& value, double& out) {
  out = value.is_null() ? StepMetrics::kUnknown : value.get<double>();
}

std::string to_line(const StepMetrics& metrics) {
  Json line = Json::object();
  visit_columns([&](const char* name, const auto& value) { line[name] = number(value); }, metrics);
  for (const auto& [name, value] : metrics.more) {
    VEOMNI_CHECK(!line.contains(name), "metric '", name, "' has the name of a column of its own");
    line[name] = number(value);
  }
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// @throws nlohmann's exceptions where the text is not a line of metrics
StepMetrics from_line(std::string_view text) {
  Json line = Json::parse(text);
  StepMetrics metrics;
  visit_columns(
      [&](const char* name, auto& value) {
        assign(line.at(name), value);
        line.erase(name);
      },
      metrics);
  for (const auto& [name, value] : line.items()) assign(value, metrics.more[name]);
  return metrics;
}

struct Line {
  StepMetrics metrics;
  size_t end;  ///< offset after it, its newline included
};

std::vector<Line> parse_lines(const std::string& path, const std::string& text) {
  std::vector<Line> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    const size_t end = newline == std::string::npos ? text.size() : newline + 1;
    // A line without its newline was cut by a crash: a number at its end may lack digits, so it counts for nothing.
    if (newline == std::string::npos) break;
    try {
      lines.push_back({from_line(std::string_view(text).substr(begin, newline - begin)), end});
    } catch (const nlohmann::json::exception& error) {
      if (end == text.size()) break;
      throw_error(path + ":" + std::to_string(lines.size() + 1) +
                  ": not a line of metrics: " + error.what());
    }
    begin = end;
  }
  return lines;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  VEOMNI_CHECK(in.good(), "cannot open ", path);
  std::ostringstream text;
  text << in.rdbuf();
  VEOMNI_CHECK(!in.bad(), "cannot read ", path);
  return std::move(text).str();
}

/// Bytes of the file's lines up to and with `step`.
size_t bytes_until(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return 0;
  size_t kept = 0;
  for (const auto& line : parse_lines(path, read_text(path))) {
    if (line.metrics.step > step) break;
    kept = line.end;
  }
  return kept;
}

}  // namespace

std::string metrics_file(const std::string& output_dir) {
  return (std::filesystem::path(output_dir) / "metrics.jsonl").string();
}

MetricsWriter::MetricsWriter(const std::string& output_dir, std::optional<int64_t> resume_step) {
  std::error_code failed;
  std::filesystem::create_directories(output_dir, failed);
  VEOMNI_CHECK(!failed, "cannot make the directory ", output_dir, ": ", failed.message());
  const std::string path = metrics_file(output_dir);
  if (resume_step) {
    const size_t kept = bytes_until(path, *resume_step);
    file_ = std::make_unique<AppendFile>(path, AppendFile::Open::kExtend);
    file_->truncate(static_cast<int64_t>(kept));
  } else {
    file_ = std::make_unique<AppendFile>(path, AppendFile::Open::kEmpty);
  }
}

MetricsWriter::~MetricsWriter() = default;

void MetricsWriter::write(const StepMetrics& metrics) { file_->append(to_line(metrics)); }

std::vector<StepMetrics> read_metrics(const std::string& path) {
  std::vector<StepMetrics> all;
  for (auto& line : parse_lines(path, read_text(path))) all.push_back(std::move(line.metrics));
  return all;
}

}  // namespace veomni
