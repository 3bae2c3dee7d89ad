// SPDX-License-Identifier: Apache-2.0
#include "profile/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "veomni/base/error.h"

namespace veomni::train {

namespace {

std::string in_json(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Nanoseconds as µs, exactly.
std::string microseconds(int64_t ns) {
  return fmt::format("{}{}.{:03}", ns < 0 ? "-" : "", std::abs(ns) / 1000, std::abs(ns) % 1000);
}

std::string metadata(int rank, int thread, const char* what, const std::string& name) {
  return fmt::format(R"({{"name":"{}","ph":"M","pid":{},"tid":{},"args":{{"name":{}}}}})", what,
                     rank, thread, in_json(name));
}

std::string arguments(const trace::Event& event) {
  std::string args;
  const auto add = [&](const char* key, const std::string& value) {
    args += fmt::format("{}\"{}\":{}", args.empty() ? "" : ",", key, value);
  };
  if (event.pass) add("pass", in_json(event.pass));
  if (event.label) add("unit", in_json(event.label));
  if (event.group) add("group", in_json(event.group));
  if (event.category == trace::Category::kCollective) add("bytes", std::to_string(event.bytes));
  if (event.flops > 0) add("flops", fmt::format("{:.0f}", event.flops));
  return args;
}

std::string span(int rank, int thread, int64_t origin_ns, const trace::Event& event) {
  std::string name = event.name;
  if (event.pass) name.append(" ").append(event.pass);
  return fmt::format(
      R"({{"name":{},"cat":"{}","ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"args":{{{}}}}})",
      in_json(name), trace::name_of(event.category), rank, thread,
      microseconds(event.begin_ns - origin_ns), microseconds(event.end_ns - event.begin_ns),
      arguments(event));
}

}  // namespace

TraceFile::TraceFile(std::string path, int rank, int64_t origin_ns)
    : path_(std::move(path)),
      rank_(rank),
      origin_ns_(origin_ns),
      file_(std::fopen(path_.c_str(), "wb"), &std::fclose) {
  VEOMNI_CHECK(file_, "cannot write ", path_, ": ", std::strerror(errno));
  const std::string head = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  end_ = static_cast<long>(head.size());
  VEOMNI_CHECK(std::fwrite(head.data(), 1, head.size(), file_.get()) == head.size(),
               "cannot write ", path_, ": ", std::strerror(errno));
  append(metadata(rank, 0, "process_name", fmt::format("rank {}", rank)));
}

void TraceFile::add(const std::vector<trace::ThreadEvents>& threads) {
  std::string items;
  for (const auto& thread : threads) {
    if (std::find(named_threads_.begin(), named_threads_.end(), thread.thread) ==
        named_threads_.end()) {
      named_threads_.push_back(thread.thread);
      items += ",\n" + metadata(rank_, thread.thread, "thread_name", thread.name);
    }
    for (const auto& event : thread.events)
      items += ",\n" + span(rank_, thread.thread, origin_ns_, event);
  }
  if (!items.empty()) append(items);
}

void TraceFile::append(const std::string& items) {
  static const std::string kClose = "\n]}\n";
  std::FILE* file = file_.get();
  const bool good = std::fseek(file, end_, SEEK_SET) == 0 &&
                    std::fwrite(items.data(), 1, items.size(), file) == items.size() &&
                    std::fwrite(kClose.data(), 1, kClose.size(), file) == kClose.size() &&
                    std::fflush(file) == 0;
  VEOMNI_CHECK(good, "cannot write ", path_, ": ", std::strerror(errno));
  end_ += static_cast<long>(items.size());
}

}  // namespace veomni::train
