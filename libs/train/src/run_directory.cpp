// SPDX-License-Identifier: Apache-2.0
#include "run_directory.h"

#include <fmt/format.h>
#include <torch/version.h>

#include <ctime>
#include <fstream>
#include <thread>

#include "veomni/base/error.h"
#include "veomni/io/output_file.h"
#include "veomni/ops/caching_allocator.h"

namespace veomni::train {

std::string checkpoint_root(const Recipe& recipe) { return recipe.output + "/checkpoints"; }
std::string hf_directory(const Recipe& recipe) { return recipe.output + "/hf"; }

double peak_rss_mib() {
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    double kib = 0;
    if (key == "VmHWM:" && status >> kib) return kib / 1024;
  }
  return StepMetrics::kUnknown;
}

namespace {

// Tokens up to the resumed step, so that the curve of a resumed run goes on where it was.
int64_t tokens_before(const Recipe& recipe, std::optional<int64_t> resumed) {
  if (!resumed) return 0;
  int64_t tokens = 0;
  for (const auto& line : read_metrics(metrics_file(recipe.output))) {
    if (line.step <= *resumed) tokens = std::max(tokens, line.tokens);
  }
  return tokens;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

int64_t num_parameters(model::OmniModel& model) {
  int64_t count = 0;
  for (const auto& [path, parameter] : model.named_parameters()) count += parameter.numel();
  return count;
}

// A contact sheet for every evaluation source that read or made media.
std::vector<ReportSection> media_sections(const std::vector<EvalExhibit>& exhibits) {
  std::vector<ReportSection> sections;
  for (const auto& exhibit : exhibits) {
    if (sections.empty() || sections.back().title != exhibit.source)
      sections.push_back({exhibit.source, "", ReportMedia{}});
    std::get<ReportMedia>(sections.back().body)
        .items.push_back({exhibit.mime, exhibit.bytes, exhibit.caption});
  }
  return sections;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return text;
}

}  // namespace

RunDirectory::RunDirectory(const Recipe& recipe, std::optional<int64_t> resumed)
    : recipe_(recipe),
      metrics_(recipe.output, resumed),
      tensorboard_(recipe.output, resumed),
      progress_(std::make_unique<Progress>(ProgressOptions{.total_steps = recipe.train.steps,
                                                           .start_step = resumed.value_or(0),
                                                           .every_steps = recipe.train.log_every})),
      tokens_(tokens_before(recipe, resumed)) {
  io::write_file(recipe.output + "/recipe.yaml", resolved_recipe(recipe));
}

void RunDirectory::add_step(const StepResult& result, int64_t step, double step_ms,
                            const std::map<std::string, double>& evaluation) {
  tokens_ += result.tokens;
  total_flops_ += result.flops;
  StepMetrics m;
  m.step = step;
  m.loss = result.loss;
  m.grad_norm = result.grad_norm;
  m.lr = result.lr;
  m.tokens = tokens_;
  m.step_ms = step_ms;
  m.tokens_per_second = static_cast<double>(result.tokens) / step_ms * 1e3;
  m.peak_rss_mib = peak_rss_mib();
  if (const auto memory = ops::memory_stats()) {
    constexpr double kMib = 1 << 20;
    m.more["memory_live_mib"] = static_cast<double>(memory->live_bytes) / kMib;
    m.more["memory_peak_mib"] = static_cast<double>(memory->peak_bytes) / kMib;
    m.more["memory_cached_mib"] = static_cast<double>(memory->held_bytes) / kMib;
  }
  m.more["model_tflop"] = result.flops / 1e12;
  if (result.losses.size() > 1) {
    for (const auto& [name, value] : result.losses) m.more["loss/" + name] = value;
  }
  for (const auto& [name, value] : evaluation) m.more["eval/" + name] = value;
  metrics_.write(m);
  tensorboard_.add(m);
  progress_->update(m);
}

void RunDirectory::finish() { progress_->finish(); }

ReportData RunDirectory::report(model::OmniModel& model,
                                const std::map<std::string, double>& metrics,
                                const std::vector<SampleAnswer>& answers,
                                const std::vector<EvalExhibit>& exhibits) const {
  const auto lines = read_metrics(metrics_file(recipe_.output));
  const auto& config = model.has_foundation() ? model.foundation().config()
                                              : model.decoders().begin()->second->config();
  ReportData data;
  data.title = config.value("model_type", std::string("model")) + ", " + recipe_.file;
  data.subtitle = recipe_.output + ", " + today();
  data.headline = {{"parameters", fmt::format("{:.2f} M", num_parameters(model) / 1e6)},
                   {"tokens", fmt::format("{:.2f} M", tokens_ / 1e6)},
                   {"training", fmt::format("{:.2f} TFLOP", total_flops_ / 1e12)},
                   {"wall time", fmt::format("{:.0f} s", total_seconds())}};
  if (!lines.empty())
    data.headline.push_back({"final loss", fmt::format("{:.4f}", lines.back().loss)});
  data.facts = {{"processor", fmt::format("{}, {} threads", processor_name(),
                                          std::thread::hardware_concurrency())},
                {"libtorch", TORCH_VERSION},
                {"peak memory", fmt::format("{:.0f} MiB", peak_rss_mib())}};
  data.sections.push_back({"Training", "", metric_charts(lines)});
  if (!metrics.empty()) {
    ReportTable table{{"measure", "value"}, {}};
    for (const auto& [name, value] : metrics)
      table.rows.push_back({name, fmt::format("{:.4f}", value)});
    data.sections.push_back({"Evaluation", "on held-out data, after the last step", table});
  }
  if (!answers.empty()) {
    ReportSamples samples;
    for (const auto& answer : answers)
      samples.samples.push_back({answer.prompt, answer.answer, ""});
    data.sections.push_back({"Samples", "", samples});
  }
  for (auto& section : media_sections(exhibits)) data.sections.push_back(std::move(section));
  data.sections.push_back(
      {"Recipe", "every default filled in", ReportText{resolved_recipe(recipe_)}});
  return data;
}

void RunDirectory::write_results(model::OmniModel& model,
                                 const std::map<std::string, double>& metrics,
                                 const std::vector<SampleAnswer>& answers,
                                 const std::vector<EvalExhibit>& exhibits) {
  if (!metrics.empty() || !answers.empty()) {
    io::write_file(recipe_.output + "/eval.json", evaluation_json(metrics, answers));
  }
  write_report(recipe_.output + "/report.html", report(model, metrics, answers, exhibits));
}

}  // namespace veomni::train
