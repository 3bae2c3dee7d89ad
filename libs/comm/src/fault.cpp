// SPDX-License-Identifier: Apache-2.0
#include "fault.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <sstream>
#include <thread>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/base/parse_number.h"

namespace veomni {

namespace {

struct Faults {
  std::mutex mutex;
  std::vector<Fault> list;
  std::atomic<bool> any{false};
  std::once_flag environment;
};

Faults& faults() {
  static Faults instance;
  return instance;
}

int64_t number_of(const std::string& key, const std::string& value) {
  const auto number = parse_number<int64_t>(value);
  VEOMNI_CHECK_CONFIG(number && *number >= 0, "fault: ", key, "=", value,
                      " is not a number from 0");
  return *number;
}

FaultKind kind_of(const std::string& value) {
  if (value == "hang") return FaultKind::kHang;
  if (value == "skip") return FaultKind::kSkip;
  if (value == "kill") return FaultKind::kKill;
  throw_config_error("fault: kind=" + value + " is unknown; take hang, skip or kill");
}

bool inside_of(const std::string& value) {
  if (value == "before") return false;
  if (value == "inside") return true;
  throw_config_error("fault: at=" + value + " is unknown; take before or inside");
}

}  // namespace

Fault parse_fault(const std::string& text) {
  Fault fault;
  bool has_rank = false, has_seq = false, has_kind = false;
  std::istringstream entries(text);
  for (std::string entry; std::getline(entries, entry, ',');) {
    const size_t equals = entry.find('=');
    VEOMNI_CHECK_CONFIG(equals != std::string::npos, "fault: '", entry,
                        "' is not key=value, as in rank=1,seq=20,kind=skip");
    const std::string key = entry.substr(0, equals), value = entry.substr(equals + 1);
    if (key == "rank") {
      fault.rank = static_cast<int>(number_of(key, value));
      has_rank = true;
    } else if (key == "seq") {
      fault.seq = number_of(key, value);
      has_seq = true;
    } else if (key == "kind") {
      fault.kind = kind_of(value);
      has_kind = true;
    } else if (key == "at") {
      fault.inside = inside_of(value);
    } else {
      throw_config_error("fault: unknown key '" + key + "'; take rank, seq, kind, at");
    }
  }
  VEOMNI_CHECK_CONFIG(has_rank && has_seq && has_kind, "fault: '", text,
                      "' needs rank, seq and kind, as in rank=1,seq=20,kind=skip");
  VEOMNI_CHECK_CONFIG(!(fault.inside && fault.kind == FaultKind::kSkip),
                      "fault: a call that all ranks have begun cannot be skipped; leave out "
                      "at=inside");
  return fault;
}

void inject_fault(const Fault& fault) {
  std::lock_guard lock(faults().mutex);
  faults().list.push_back(fault);
  faults().any = true;
}

void clear_faults() {
  std::lock_guard lock(faults().mutex);
  faults().list.clear();
  faults().any = false;
}

void read_fault_environment() {
  std::call_once(faults().environment, [] {
    const char* value = std::getenv("VEOMNI_FAULT");
    if (!value) return;
    std::istringstream entries(value);
    for (std::string entry; std::getline(entries, entry, ';');) {
      if (!entry.empty()) inject_fault(parse_fault(entry));
    }
  });
}

std::optional<FaultKind> fault_at(int rank, int64_t seq, bool inside) {
  if (!faults().any.load(std::memory_order_relaxed)) return std::nullopt;
  std::lock_guard lock(faults().mutex);
  for (const Fault& fault : faults().list) {
    if (fault.rank == rank && fault.seq == seq && fault.inside == inside) return fault.kind;
  }
  return std::nullopt;
}

void suffer(FaultKind kind, const std::function<bool()>& aborted) {
  if (kind == FaultKind::kKill) ::raise(SIGKILL);
  while (kind == FaultKind::kHang && !aborted())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace veomni
