// SPDX-License-Identifier: Apache-2.0
/// Curves as the page's script reads them.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>

#include "veomni/train/report.h"

namespace veomni {

inline constexpr size_t kMostPoints = 2000;

/// At most `most` (>= 4) points: the first, the last, and of every stretch between them of equal length the least and
/// the greatest, in their order. A stretch without a finite y leaves one gap.
ReportCurve thin_out(const ReportCurve& curve, size_t most = kMostPoints);

/// {"title", "unit", "x_name", "smooth", "curves": [{"name", "x": […], "y": […], "gaps", "first_gap"}]} with curves
/// thinned and those without a point left out, y to six digits and `null` for gaps; "gaps" counts points that are not finite before thinning.
nlohmann::ordered_json chart_json(const ReportChart& chart);

}  // namespace veomni
