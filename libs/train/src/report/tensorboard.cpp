// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/tensorboard.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "report/append_file.h"
#include "report/event_encoding.h"
#include "veomni/base/error.h"

namespace veomni {

namespace {

// Field numbers of TensorFlow's event.proto and summary.proto.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField { kValue = 1, kTag = 1, kSimpleValue = 2 };
enum SessionLogField { kStatus = 1 };
constexpr uint64_t kSessionStart = 1;

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 && name[0] != '\0' ? name : "localhost";
}

std::unique_ptr<AppendFile> make_event_file(const std::string& dir) {
  std::error_code failed;
  std::filesystem::create_directories(dir, failed);
  VEOMNI_CHECK(!failed, "cannot make the directory ", dir, ": ", failed.message());
  const std::string name = "events.out.tfevents." +
                           std::to_string(static_cast<int64_t>(unix_seconds())) + "." + host_name();
  const std::string path = (std::filesystem::path(dir) / name).string();
  for (int attempt = 0;; ++attempt) {
    auto file = std::make_unique<AppendFile>(
        path + (attempt > 0 ? "." + std::to_string(attempt) : ""), AppendFile::Open::kNew);
    if (file->valid()) return file;
  }
}

}  // namespace

TensorBoardWriter::TensorBoardWriter(const std::string& dir, std::optional<int64_t> resume_step)
    : file_(make_event_file(dir)) {
  write_event(0, events::bytes_field(kFileVersion, "brain.Event:2"));
  // A session that starts at step n makes TensorBoard forget steps >= n of the files before.
  if (resume_step) {
    write_event(*resume_step + 1,
                events::bytes_field(kSessionLog, events::varint_field(kStatus, kSessionStart)));
  }
}

TensorBoardWriter::~TensorBoardWriter() = default;

const std::string& TensorBoardWriter::path() const { return file_->path(); }

void TensorBoardWriter::write_event(int64_t step, std::string_view fields) {
  std::string event = events::double_field(kWallTime, unix_seconds());
  if (step != 0) event += events::varint_field(kStep, static_cast<uint64_t>(step));
  file_->append(events::record(event + std::string(fields)));
}

namespace {
std::string scalar(const std::string& tag, double value) {
  return events::bytes_field(kValue,
                             events::bytes_field(kTag, tag) +
                                 events::float_field(kSimpleValue, static_cast<float>(value)));
}
}  // namespace

void TensorBoardWriter::add_scalar(const std::string& tag, double value, int64_t step) {
  write_event(step, events::bytes_field(kSummary, scalar(tag, value)));
}

void TensorBoardWriter::add(const StepMetrics& metrics) {
  std::string values =
      scalar("train/loss", metrics.loss) + scalar("train/grad_norm", metrics.grad_norm);
  const std::pair<const char*, double> measured[] = {
      {"train/lr", metrics.lr},           {"train/tokens", static_cast<double>(metrics.tokens)},
      {"train/mfu", metrics.mfu},         {"train/tokens_per_second", metrics.tokens_per_second},
      {"train/step_ms", metrics.step_ms}, {"train/peak_rss_mib", metrics.peak_rss_mib}};
  for (const auto& [tag, value] : measured) {
    if (std::isfinite(value)) values += scalar(tag, value);
  }
  for (const auto& [tag, value] : metrics.more) values += scalar(tag, value);
  write_event(metrics.step, events::bytes_field(kSummary, values));
}

}  // namespace veomni
