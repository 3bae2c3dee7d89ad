// SPDX-License-Identifier: Apache-2.0
#include "profile/profiler.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <algorithm>
#include <filesystem>

#include "veomni/base/context.h"
#include "veomni/base/error.h"
#include "veomni/base/parse_number.h"
#include "veomni/io/output_file.h"
#include "veomni/parallel/profile.h"

namespace veomni::train {

namespace fs = std::filesystem;

namespace {

// Clocks of one host agree to the nanosecond; those of two differ by their time since boot.
constexpr int64_t kSameClockNs = 10'000'000'000;

int64_t agree_on_origin(Communicator& world) {
  const int64_t now = trace::now_ns();
  auto origin = torch::full({1}, now, torch::kLong);
  world.broadcast(origin, 0)->wait();
  const int64_t first = origin.item<int64_t>();
  return std::abs(trace::now_ns() - first) < kSameClockNs ? first : now;
}

void remove_old_files(const std::string& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if ((name.starts_with("rank_") && name.ends_with(".json")) || name == "summary.txt")
      fs::remove(entry.path());
  }
}

std::vector<std::vector<double>> gather_rows(const std::vector<double>& mine, Communicator& world) {
  const auto width = static_cast<int64_t>(mine.size());
  const auto in = torch::tensor(mine, torch::kDouble);
  auto out = torch::empty({world.size() * width}, torch::kDouble);
  world.all_gather(out, in)->wait();
  std::vector<std::vector<double>> rows;
  for (int rank = 0; rank < world.size(); ++rank) {
    const double* first = out.data_ptr<double>() + rank * width;
    rows.emplace_back(first, first + width);
  }
  return rows;
}

}  // namespace

StepRange parse_steps(const std::string& text) {
  const size_t dots = text.find("..");
  const bool is_range = dots != std::string::npos;
  const auto first = parse_number<int64_t>(text.substr(0, dots));
  const auto last = parse_number<int64_t>(is_range ? text.substr(dots + 2) : "");
  VEOMNI_CHECK_CONFIG(first && last && 1 <= *first && *first <= *last, "--profile-steps: '", text,
                      "' is no range of steps; write A..B, such as 5..7");
  return {*first, *last};
}

std::optional<StepRange> steps_to_profile(const std::optional<StepRange>& asked, int64_t done,
                                          int64_t total) {
  if (asked) {
    VEOMNI_CHECK_CONFIG(asked->last <= total, "--profile-steps ", asked->first, "..", asked->last,
                        ": train.steps is ", total, "; choose steps up to it");
    VEOMNI_CHECK_CONFIG(asked->first > done, "--profile-steps ", asked->first, "..", asked->last,
                        ": the run goes on from step ", done,
                        "; choose later steps, or another output");
    return asked;
  }
  const int64_t last = std::min(done + 7, total), first = std::max(done + 1, last - 2);
  return first <= last ? std::optional(StepRange{first, last}) : std::nullopt;
}

Profiler::Profiler(nn::Module& model, StepRange steps, std::string directory, Communicator& world)
    : steps_(steps), directory_(std::move(directory)), world_(world) {
  parallel::profile_units(model);
  fs::create_directories(directory_);
  // Before the others, whom the broadcast holds back, write theirs.
  if (world_.rank() == 0) remove_old_files(directory_);
  const int64_t origin_ns = agree_on_origin(world_);
  file_ = std::make_unique<TraceFile>(fmt::format("{}/rank_{}.json", directory_, world_.rank()),
                                      world_.rank(), origin_ns);
}

Profiler::~Profiler() { stop(); }

void Profiler::begin_step(int64_t step) {
  if (step < steps_.first || step > steps_.last) return;
  // What other ranks of this process made this one record before its own time.
  trace::take(thread_context().worker);
  trace::start();
  recording_ = true;
  step_.emplace(trace::Category::kStep, trace::intern(fmt::format("step {}", step)));
}

void Profiler::stop() {
  step_.reset();
  if (std::exchange(recording_, false)) trace::stop();
}

void Profiler::end_step() {
  if (!recording_) return;
  stop();
  const auto threads = trace::take(thread_context().worker);
  table_.add(threads);
  file_->add(threads);
}

void Profiler::finish() {
  const auto rows = gather_rows(rank_row(table_), world_);
  if (world_.rank() != 0) return;
  std::string text =
      fmt::format("profile of steps {} to {}, rank 0 of {}; traces: {}/rank_K.json\n\n{}",
                  steps_.first, steps_.last, world_.size(), directory_, describe(table_));
  if (rows.size() > 1) text += "\n" + describe_ranks(rows);
  io::write_file(directory_ + "/summary.txt", text);
  fmt::print("\n{}\n", text);
}

}  // namespace veomni::train
