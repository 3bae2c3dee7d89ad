// SPDX-License-Identifier: Apache-2.0
#include "report/curves.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "veomni/base/error.h"

namespace veomni {

using Json = nlohmann::ordered_json;

ReportCurve thin_out(const ReportCurve& curve, size_t most) {
  const size_t count = curve.x.size();
  if (count <= most) return curve;
  ReportCurve out{curve.name, {}, {}};
  auto keep = [&](size_t i) {
    out.x.push_back(curve.x[i]);
    out.y.push_back(curve.y[i]);
  };
  keep(0);
  const size_t inner = count - 2, stretches = (most - 2) / 2;
  for (size_t s = 0; s < stretches; ++s) {
    const size_t begin = 1 + inner * s / stretches, end = 1 + inner * (s + 1) / stretches;
    size_t least = count, greatest = count;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isfinite(curve.y[i])) continue;
      if (least == count || curve.y[i] < curve.y[least]) least = i;
      if (greatest == count || curve.y[i] > curve.y[greatest]) greatest = i;
    }
    if (least == count) {
      keep(begin);
    } else {
      keep(std::min(least, greatest));
      if (least != greatest) keep(std::max(least, greatest));
    }
  }
  keep(count - 1);
  return out;
}

namespace {

Json rounded(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr);
}

Json curve_json(const ReportCurve& curve) {
  Json gaps = 0, first_gap = nullptr;
  for (size_t i = 0; i < curve.y.size(); ++i) {
    if (std::isfinite(curve.y[i])) continue;
    if (gaps == 0) first_gap = rounded(curve.x[i]);
    gaps = gaps.get<int64_t>() + 1;
  }
  const ReportCurve thin = thin_out(curve);
  Json x = Json::array(), y = Json::array();
  for (size_t i = 0; i < thin.x.size(); ++i) {
    x.push_back(rounded(thin.x[i]));
    y.push_back(rounded(thin.y[i]));
  }
  return {{"name", curve.name},
          {"x", std::move(x)},
          {"y", std::move(y)},
          {"gaps", gaps},
          {"first_gap", first_gap}};
}

}  // namespace

Json chart_json(const ReportChart& chart) {
  Json curves = Json::array();
  for (const auto& curve : chart.curves) {
    VEOMNI_CHECK(curve.x.size() == curve.y.size(), "report: chart '", chart.title, "', curve '",
                 curve.name, "': ", curve.x.size(), " x for ", curve.y.size(), " y");
    if (!curve.x.empty()) curves.push_back(curve_json(curve));
  }
  return {{"title", chart.title},
          {"unit", chart.unit},
          {"x_name", chart.x_name},
          {"smooth", chart.smooth},
          {"curves", std::move(curves)}};
}

}  // namespace veomni
