// SPDX-License-Identifier: Apache-2.0
/// `report.html`: one file that shows a run, opens without a network and can be mailed.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "veomni/train/metrics.h"

namespace veomni {

/// All text is plain: it is escaped here, and bytes that are not UTF-8 show as U+FFFD.

/// A name and its value: "parameters" and "12.6 M".
struct ReportFact {
  std::string name;
  std::string value;
};

/// Points in the order of x. A y that is not finite makes a gap, and the chart says so.
struct ReportCurve {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
};

/// Curves over one axis.
struct ReportChart {
  std::string title;
  std::string unit;  ///< "MiB", "%"; may be empty
  std::vector<ReportCurve> curves;
  bool smooth = true;  ///< whether the page's smoothing applies
  std::string x_name = "step";
};

struct ReportCharts {
  std::vector<ReportChart> charts;  ///< the first is shown wide
};

struct ReportTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>>
      rows;  ///< of as many cells as columns; numbers are set right
};

/// A question put to the model.
struct ReportSample {
  std::string prompt;
  std::string answer;
  std::string reference;  ///< the text known to be right; may be empty
};

struct ReportSamples {
  std::vector<ReportSample> samples;
};

/// Preformatted text, such as the resolved recipe.
struct ReportText {
  std::string text;
  bool folded = true;  ///< opens at a click
};

/// An image, a sound or a film, inside the page as a data URI.
struct ReportMediaItem {
  std::string mime;   ///< "image/png", "audio/wav", "video/mp4"
  std::string bytes;  ///< the file's
  std::string caption;
};

struct ReportMedia {
  std::vector<ReportMediaItem> items;
};

struct ReportSection {
  std::string title;
  std::string note;  ///< a line or two under the title; may be empty
  std::variant<ReportCharts, ReportTable, ReportSamples, ReportText, ReportMedia> body;
};

struct ReportData {
  std::string title;                    ///< "Qwen3 on WordNet glosses"
  std::string subtitle;                 ///< "out/quickstart, 2 Jan 2026"; may be empty
  std::vector<ReportFact> headline;     ///< up to about five numbers, shown large
  std::vector<ReportFact> facts;        ///< model, machine, versions, …
  std::vector<ReportSection> sections;  ///< in the order shown
};

/// The charts of a run, empty ones left out: loss, loss by source, other measures of `more`, gradient norm, learning
/// rate, tokens/s, peak memory, MFU. A name in `more` of the form "loss/<source>" joins "Loss by source"; of any
/// other, the part after the last '/' is the chart and the part before it the curve, so that "eval/loss" lies over
/// the training loss and "eval/bits_per_byte" has a chart of its own.
ReportCharts metric_charts(const std::vector<StepMetrics>& metrics);

/// Writes the page: to a neighbour first, then renamed, so that a reader never sees half of it. Curves of more than
/// 2,000 points are thinned; the least and the greatest of every stretch stay.
/// @throws Error naming the file where it cannot be written; naming the section where a row has more or fewer cells
///         than columns, a curve's x and y differ in length, or a medium is neither image, audio nor video.
void write_report(const std::string& path, const ReportData& data);

}  // namespace veomni
