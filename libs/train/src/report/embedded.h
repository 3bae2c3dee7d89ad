// SPDX-License-Identifier: Apache-2.0
/// Files that the build puts into the library (cmake/ReportPage.cmake).
#pragma once

#include <string_view>

namespace veomni::embedded {

extern const std::string_view kChartJs;  ///< Chart.js 3, MIT, its licence banner included
extern const std::string_view kReportCss;
extern const std::string_view kReportJs;

}  // namespace veomni::embedded
