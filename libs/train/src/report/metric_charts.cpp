// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "veomni/train/report.h"

namespace veomni {

namespace {

/// "bits_per_byte" -> "Bits per byte"
std::string title_of(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  if (!name.empty() && name[0] >= 'a' && name[0] <= 'z')
    name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name;
}

void add_point(ReportChart& chart, const std::string& curve_name, int64_t step, double value) {
  auto found = std::find_if(chart.curves.begin(), chart.curves.end(),
                            [&](const ReportCurve& curve) { return curve.name == curve_name; });
  if (found == chart.curves.end()) found = chart.curves.insert(found, {curve_name, {}, {}});
  found->x.push_back(static_cast<double>(step));
  found->y.push_back(value);
}

/// A chart of one number of every step. What was not measured is no point; what was and diverged is a gap.
ReportChart chart_of(const std::vector<StepMetrics>& metrics, ReportChart chart,
                     double StepMetrics::*column, double scale = 1) {
  const bool may_diverge = column == &StepMetrics::loss || column == &StepMetrics::grad_norm;
  for (const auto& m : metrics) {
    if (may_diverge || std::isfinite(m.*column))
      add_point(chart, "train", m.step, scale * (m.*column));
  }
  return chart;
}

/// "memory_live_mib" -> "live", "" for a name that is not of the allocator
std::string memory_curve(const std::string& name) {
  const std::string_view prefix = "memory_", unit = "_mib";
  if (!name.starts_with(prefix) || !name.ends_with(unit)) return "";
  return name.substr(prefix.size(), name.size() - prefix.size() - unit.size());
}

/// Puts the numbers of `more` into the loss chart, "Loss by source", "Memory of tensors", or charts of their own.
void add_more(const std::vector<StepMetrics>& metrics, ReportChart& loss, ReportChart& by_source,
              ReportChart& memory, std::vector<ReportChart>& others) {
  for (const auto& m : metrics) {
    for (const auto& [name, value] : m.more) {
      const size_t slash = name.rfind('/');
      const std::string measure = slash == std::string::npos ? name : name.substr(slash + 1);
      const std::string curve = slash == std::string::npos ? "train" : name.substr(0, slash);
      if (name.starts_with("loss/")) {
        add_point(by_source, name.substr(5), m.step, value);
      } else if (const std::string kind = memory_curve(name); !kind.empty()) {
        add_point(memory, kind, m.step, value);
      } else if (measure == "loss") {
        add_point(loss, curve, m.step, value);
      } else {
        const std::string title = title_of(measure);
        auto chart = std::find_if(others.begin(), others.end(),
                                  [&](const auto& c) { return c.title == title; });
        if (chart == others.end()) chart = others.insert(chart, ReportChart{title, "", {}});
        add_point(*chart, curve, m.step, value);
      }
    }
  }
}

}  // namespace

ReportCharts metric_charts(const std::vector<StepMetrics>& metrics) {
  ReportChart loss = chart_of(metrics, {"Loss", "", {}}, &StepMetrics::loss);
  ReportChart by_source{"Loss by source", "", {}}, memory{"Memory of tensors", "MiB", {}, false};
  std::vector<ReportChart> charts, others;
  add_more(metrics, loss, by_source, memory, others);

  charts.push_back(std::move(loss));
  charts.push_back(std::move(by_source));
  std::move(others.begin(), others.end(), std::back_inserter(charts));
  charts.push_back(chart_of(metrics, {"Gradient norm", "", {}}, &StepMetrics::grad_norm));
  charts.push_back(chart_of(metrics, {"Learning rate", "", {}, false}, &StepMetrics::lr));
  charts.push_back(
      chart_of(metrics, {"Tokens per second", "", {}}, &StepMetrics::tokens_per_second));
  charts.push_back(
      chart_of(metrics, {"Peak memory", "MiB", {}, false}, &StepMetrics::peak_rss_mib));
  charts.push_back(std::move(memory));
  charts.push_back(chart_of(metrics, {"Model FLOP utilisation", "%", {}}, &StepMetrics::mfu, 100));
  std::erase_if(charts, [](const ReportChart& chart) { return chart.curves.empty(); });
  return {std::move(charts)};
}

}  // namespace veomni
