// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/report.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "report/append_file.h"
#include "report/curves.h"
#include "report/embedded.h"
#include "report/html.h"
#include "veomni/base/error.h"

namespace veomni {

namespace {

// More pictures than this are shown small, side by side.
constexpr size_t kSheetItems = 12;

using html::escape;

std::string tag(const char* name, const char* css_class, const std::string& inner) {
  return std::string("<") + name + (css_class ? std::string(" class=\"") + css_class + "\"" : "") +
         ">" + inner + "</" + name + ">\n";
}

std::string facts_html(const std::vector<ReportFact>& facts, const char* css_class) {
  if (facts.empty()) return "";
  std::string list;
  for (const auto& fact : facts) {
    list += "<div><dt>" + escape(fact.name) + "</dt><dd>" + escape(fact.value) + "</dd></div>\n";
  }
  return tag("dl", css_class, list);
}

/// "1.25", "-3e-4", "12.5 %", "4,096", "–" count as numbers for the sake of alignment.
bool is_number_text(const std::string& cell) {
  if (cell.empty() || cell == "-" || cell == "–" || cell == "—") return true;
  std::string digits = cell;
  std::erase(digits, ',');
  if (digits.empty() || std::isspace(static_cast<unsigned char>(digits[0]))) return false;
  char* end = nullptr;
  std::strtod(digits.c_str(), &end);
  return end != digits.c_str() && (*end == '\0' || std::strcmp(end, "%") == 0 ||
                                   std::strcmp(end, " %") == 0 || std::strcmp(end, "×") == 0);
}

/// Writes a section's body; charts are collected as JSON for the page's script.
class BodyWriter {
 public:
  BodyWriter(const std::string& section, nlohmann::ordered_json& charts)
      : section_(section), charts_(charts) {}

  std::string operator()(const ReportCharts& body) const {
    std::string cards;
    for (const auto& chart : body.charts) {
      auto json = chart_json(chart);
      if (json["curves"].empty()) continue;
      const std::string unit =
          chart.unit.empty() ? "" : " <span class=\"unit\">" + escape(chart.unit) + "</span>";
      cards += "<figure class=\"card chart\" data-chart=\"" + std::to_string(charts_.size()) +
               "\">\n<figcaption><h3>" + escape(chart.title) + unit +
               "</h3></figcaption>\n<div class=\"readout\"></div>\n" +
               "<div class=\"plot\"><canvas role=\"img\" aria-label=\"" + escape(chart.title) +
               "\"></canvas></div>\n" + "</figure>\n";
      charts_.push_back(std::move(json));
    }
    if (cards.empty()) return tag("p", "empty", "No steps were recorded.");
    return tag("div", "charts", cards);
  }

  std::string operator()(const ReportTable& body) const {
    std::vector<bool> numeric(body.columns.size(), true);
    for (const auto& row : body.rows) {
      VEOMNI_CHECK(row.size() == body.columns.size(), "report: table '", section_, "' has ",
                   body.columns.size(), " columns and a row of ", row.size(), " cells");
      for (size_t c = 0; c < row.size(); ++c) numeric[c] = numeric[c] && is_number_text(row[c]);
    }
    auto row_html = [&](const std::vector<std::string>& cells, const std::string& cell_tag) {
      std::string row = "<tr>";
      for (size_t c = 0; c < cells.size(); ++c) {
        row += "<" + cell_tag + (numeric[c] ? " class=\"number\">" : ">") + escape(cells[c]) +
               "</" + cell_tag + ">";
      }
      return row + "</tr>\n";
    };
    std::string rows;
    for (const auto& row : body.rows) rows += row_html(row, "td");
    return tag("div", "card table",
               "<table>\n<thead>" + row_html(body.columns, "th") + "</thead>\n<tbody>" + rows +
                   "</tbody>\n</table>");
  }

  std::string operator()(const ReportSamples& body) const {
    std::string cards;
    for (const auto& sample : body.samples) {
      std::string card =
          tag("p", "prompt", escape(sample.prompt)) + tag("p", "answer", escape(sample.answer));
      if (!sample.reference.empty()) {
        card += tag("p", "reference", "<span>Reference</span> " + escape(sample.reference));
      }
      cards += tag("article", "card sample", card);
    }
    return tag("div", "samples", cards);
  }

  std::string operator()(const ReportText& body) const {
    const std::string text = tag("pre", nullptr, "\n" + escape(body.text));
    if (!body.folded) return tag("div", "card text", text);
    const auto lines = std::count(body.text.begin(), body.text.end(), '\n') +
                       (body.text.empty() || body.text.back() == '\n' ? 0 : 1);
    return tag("details", "card text",
               "<summary>Show " + std::to_string(lines) + (lines == 1 ? " line" : " lines") +
                   "</summary>" + text);
  }

  std::string operator()(const ReportMedia& body) const {
    std::string cards;
    for (const auto& item : body.items) cards += tag("figure", "card medium", medium_html(item));
    const bool many_pictures =
        body.items.size() > kSheetItems &&
        std::all_of(body.items.begin(), body.items.end(),
                    [](const auto& item) { return item.mime.starts_with("image/"); });
    return tag("div", many_pictures ? "media sheet" : "media", cards);
  }

 private:
  std::string medium_html(const ReportMediaItem& item) const {
    const std::string kind = item.mime.substr(0, item.mime.find('/'));
    VEOMNI_CHECK(kind == "image" || kind == "audio" || kind == "video", "report: section '",
                 section_, "' holds a medium of type '", item.mime,
                 "'; it must be image/…, audio/… or video/…");
    const std::string source = " src=\"" + escape(html::data_uri(item.mime, item.bytes)) + "\"";
    const std::string element =
        kind == "image"
            ? "<img loading=\"lazy\" alt=\"" + escape(item.caption) + "\"" + source + ">"
            : "<" + kind + " controls preload=\"metadata\"" + source + "></" + kind + ">";
    return element + (item.caption.empty() ? "" : tag("figcaption", nullptr, escape(item.caption)));
  }

  const std::string& section_;
  nlohmann::ordered_json& charts_;
};

// Nothing may be loaded, whatever the texts hold: all there is lies in the page.
constexpr const char* kHead = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:">
<link rel="icon" href="data:,">
)";

std::string page_html(const ReportData& data) {
  auto charts = nlohmann::ordered_json::array();
  std::string sections;
  for (const auto& section : data.sections) {
    const bool has_charts = std::holds_alternative<ReportCharts>(section.body);
    std::string head = tag("h2", nullptr, escape(section.title));
    if (has_charts) head += "<div class=\"tools\"></div>\n";
    sections += "<section>\n" + tag("div", "head", head);
    if (!section.note.empty()) sections += tag("p", "note", escape(section.note));
    sections += std::visit(BodyWriter(section.title, charts), section.body) + "</section>\n";
  }
  std::string page = kHead;
  page += tag("title", nullptr, escape(data.title));
  page += "<style>\n" + std::string(embedded::kReportCss) +
          "</style>\n</head>\n<body>\n<main>\n<header>\n";
  page += tag("h1", nullptr, escape(data.title));
  if (!data.subtitle.empty()) page += tag("p", "subtitle", escape(data.subtitle));
  page += facts_html(data.headline, "headline") + facts_html(data.facts, "facts") + "</header>\n";
  page += sections + "</main>\n";
  if (!charts.empty()) {
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;
    page += "<script type=\"application/json\" id=\"charts\">" +
            html::escape_json(charts.dump(-1, ' ', false, replace)) + "</script>\n<script>" +
            html::escape_script(std::string(embedded::kChartJs)) + "</script>\n<script>" +
            html::escape_script(std::string(embedded::kReportJs)) + "</script>\n";
  }
  return page + "</body>\n</html>\n";
}

}  // namespace

void write_report(const std::string& path, const ReportData& data) {
  const std::string page = page_html(data);
  const std::string unfinished = path + ".part";
  {
    AppendFile file(unfinished, AppendFile::Open::kEmpty);
    file.append(page);
  }
  VEOMNI_CHECK(std::rename(unfinished.c_str(), path.c_str()) == 0, "cannot write ", path, ": ",
               std::strerror(errno));
}

}  // namespace veomni
