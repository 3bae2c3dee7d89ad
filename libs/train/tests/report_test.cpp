// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "report/curves.h"
#include "report/html.h"
#include "veomni/base/error.h"

namespace veomni {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using testing::ThrowsMessage;

TEST(Html, EscapesTextAndRepairsUtf8) {
  EXPECT_EQ(html::escape("<b a=\"1\" c='2'>&amp;</b>"),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;&lt;/b&gt;");
  EXPECT_EQ(html::escape("漢字 é\n\t"), "漢字 é\n\t");
  EXPECT_EQ(html::escape("a\xff"
                         "b\xe6\xbc"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(html::escape(std::string("a\0b\x1b", 4)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
}

TEST(Html, JsonAndScriptsCannotEndTheirElement) {
  const std::string text = "</script><!--<script>";
  const std::string escaped = html::escape_json(json(text).dump());
  EXPECT_THAT(escaped, Not(HasSubstr("<")));
  EXPECT_EQ(json::parse(escaped), text) << "and it still means the same";
  EXPECT_THAT(html::escape_script("x='</script>'; y='<!--'"),
              AllOf(Not(HasSubstr("</script")), Not(HasSubstr("<!--"))));
}

// RFC 4648, section 10.
TEST(Html, DataUrisAreBase64) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, digits] : vectors) {
    EXPECT_EQ(html::data_uri("image/png", bytes), std::string("data:image/png;base64,") + digits);
  }
  EXPECT_EQ(html::data_uri("audio/wav", "\xff\xfe\xfd"), "data:audio/wav;base64,//79");
}

ReportCurve ramp(size_t count) {
  ReportCurve curve{"train", {}, {}};
  for (size_t i = 0; i < count; ++i) {
    curve.x.push_back(static_cast<double>(i + 1));
    curve.y.push_back(std::sin(static_cast<double>(i)));
  }
  return curve;
}

TEST(ThinOut, LeavesShortCurvesAlone) {
  EXPECT_EQ(thin_out(ramp(2000)).x, ramp(2000).x);
  EXPECT_THAT(thin_out(ramp(0)).x, IsEmpty());
}

TEST(ThinOut, KeepsEndsAndSpikesOfALongRun) {
  auto curve = ramp(100003);
  curve.y[54321] = 50;
  curve.y[54322] = -50;
  curve.y[777] = INFINITY;
  const auto thin = thin_out(curve);
  EXPECT_LE(thin.x.size(), 2000u);
  EXPECT_GT(thin.x.size(), 1900u);
  EXPECT_EQ(thin.x.front(), 1);
  EXPECT_EQ(thin.x.back(), 100003);
  EXPECT_TRUE(std::is_sorted(thin.x.begin(), thin.x.end()));
  EXPECT_EQ(*std::max_element(thin.y.begin(), thin.y.end()), 50);
  EXPECT_EQ(*std::min_element(thin.y.begin(), thin.y.end()), -50);
}

TEST(ThinOut, AStretchThatDivergedStaysAGap) {
  auto curve = ramp(10000);
  for (size_t i = 5000; i < curve.y.size(); ++i) curve.y[i] = std::nan("");
  const auto thin = thin_out(curve);
  const auto gaps =
      std::count_if(thin.y.begin(), thin.y.end(), [](double y) { return std::isnan(y); });
  EXPECT_GT(gaps, 400);
  EXPECT_LE(thin.x.size(), 2000u);
}

TEST(ThinOut, HoldsItsBoundAtEveryLength) {
  for (size_t count = 0; count < 60; ++count) {
    for (size_t most : {4, 5, 10, 11}) {
      const auto thin = thin_out(ramp(count), most);
      EXPECT_LE(thin.x.size(), most);
      if (count > 0) {
        EXPECT_EQ(thin.x.back(), static_cast<double>(count));
      }
    }
  }
}

StepMetrics step(int64_t n) {
  StepMetrics m;
  m.step = n;
  m.loss = 4.0 / static_cast<double>(n);
  m.grad_norm = 1;
  m.lr = 1e-3;
  m.tokens_per_second = 1000;
  m.peak_rss_mib = 300;
  return m;
}

std::vector<std::string> titles(const ReportCharts& charts) {
  std::vector<std::string> titles;
  for (const auto& chart : charts.charts) titles.push_back(chart.title);
  return titles;
}

TEST(MetricCharts, EvaluationLiesOverTraining) {
  std::vector<StepMetrics> metrics = {step(1), step(2), step(3)};
  metrics[1].more = {{"eval/loss", 2.5}, {"eval/held_out/loss", 2.75}, {"eval/bits_per_byte", 0.9}};
  metrics[2].more = {{"loss/wiki", 1.5}, {"loss/image/coco", 1.25}, {"dropped", 3}};
  const auto charts = metric_charts(metrics);
  EXPECT_THAT(titles(charts),
              ElementsAre("Loss", "Loss by source", "Bits per byte", "Dropped", "Gradient norm",
                          "Learning rate", "Tokens per second", "Peak memory"));
  const auto& loss = charts.charts[0].curves;
  ASSERT_EQ(loss.size(), 3u);
  EXPECT_EQ(loss[0].name, "train");
  EXPECT_THAT(loss[0].x, ElementsAre(1, 2, 3));
  EXPECT_EQ(loss[1].name, "eval/held_out");
  EXPECT_EQ(loss[2].name, "eval");
  EXPECT_THAT(loss[2].x, ElementsAre(2));
  EXPECT_THAT(loss[2].y, ElementsAre(2.5));
  EXPECT_EQ(charts.charts[1].curves[0].name, "image/coco");
}

TEST(MetricCharts, TheAllocatorsNumbersAreOneChart) {
  auto m = step(1);
  m.more = {{"memory_live_mib", 10}, {"memory_peak_mib", 20}, {"memory_cached_mib", 24}};
  const auto charts = metric_charts({m});
  EXPECT_EQ(charts.charts.back().title, "Memory of tensors");
  std::map<std::string, double> values;
  for (const auto& curve : charts.charts.back().curves) values[curve.name] = curve.y.at(0);
  EXPECT_THAT(values, ElementsAre(Pair("cached", 24), Pair("live", 10), Pair("peak", 20)));
}

TEST(MetricCharts, WhatWasNotMeasuredHasNoChartButADivergedLossHas) {
  auto m = step(1);
  m.loss = std::nan("");
  m.tokens_per_second = m.peak_rss_mib = StepMetrics::kUnknown;
  EXPECT_THAT(titles(metric_charts({m})), ElementsAre("Loss", "Gradient norm", "Learning rate"));
  EXPECT_THAT(metric_charts({}).charts, IsEmpty());
  m.mfu = 0.4;
  EXPECT_EQ(metric_charts({m}).charts.back().curves[0].y[0], 40) << "in percent";
}

class ReportTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "veomni_report_" + std::to_string(::getpid());
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string page(const ReportData& data) const {
    write_report(file(), data);
    std::ostringstream text;
    text << std::ifstream(file()).rdbuf();
    return text.str();
  }
  std::string file() const { return dir_ + "/report.html"; }

  /// The curves as the page's script finds them.
  static json charts_in(const std::string& page) {
    const std::string open = "<script type=\"application/json\" id=\"charts\">";
    const size_t begin = page.find(open) + open.size();
    return json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  }
  static size_t count(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
    return count;
  }
  std::string dir_;
};

ReportData everything() {
  std::vector<StepMetrics> metrics;
  for (int64_t n = 1; n <= 5000; ++n) metrics.push_back(step(n));
  metrics[41].loss = std::nan("");
  metrics[99].more = {{"eval/loss", 1.0 / 3}};
  const std::string hostile = "</script><script>alert(1)</script>\xff<!--";
  metrics[99].more["eval/" + hostile] = 1;
  return {
      hostile,
      hostile,
      {{"Loss", "2.18"}},
      {{hostile, hostile}},
      {{"Curves", hostile, metric_charts(metrics)},
       {"Evaluation", "", ReportTable{{"model", "bits"}, {{"unigram", "2.21"}, {hostile, "1.4"}}}},
       {"Samples", "",
        ReportSamples{{{"What is a violin?", hostile, "an instrument"}, {hostile, "", ""}}}},
       {"Recipe", "", ReportText{"optim:\n  lr: 1e-3\n" + hostile}},
       {"Media", "",
        ReportMedia{{{"image/png", "\x89PNG", hostile}, {"audio/wav", "RIFF", "a tone"}}}}}};
}

TEST_F(ReportTest, ThePageLoadsNothingAndHostileTextStaysText) {
  const std::string text = page(everything());
  for (const char* reference :
       {"src=\"http", "href=\"http", "src=\"//", "@import", "url(", "<link rel=\"stylesheet"}) {
    EXPECT_THAT(text, Not(HasSubstr(reference)));
  }
  EXPECT_THAT(text, HasSubstr("default-src 'none'"));
  EXPECT_THAT(text, Not(HasSubstr("<script>alert")));
  EXPECT_EQ(count(text, "<script"), 3u) << "data, chart library, the page's own";
  EXPECT_EQ(count(text, "</script"), 3u);
  EXPECT_THAT(text, HasSubstr("Released under the MIT License")) << "the chart library's notice";
  EXPECT_THAT(text, Not(HasSubstr("\xff")));
}

TEST_F(ReportTest, CurvesReachTheScript) {
  const json charts = charts_in(page(everything()));
  const json& loss = charts.at(0);
  EXPECT_EQ(loss["title"], "Loss");
  const json& train = loss["curves"][0];
  EXPECT_EQ(train["name"], "train");
  EXPECT_LE(train["x"].size(), 2000u);
  EXPECT_EQ(train["x"].size(), train["y"].size());
  EXPECT_EQ(train["x"].back(), 5000);
  EXPECT_EQ(train["y"][0], 4);
  EXPECT_EQ(train["gaps"], 1);
  EXPECT_EQ(train["first_gap"], 42);
  EXPECT_EQ(loss["curves"][1]["name"], "eval");
  EXPECT_EQ(loss["curves"][1]["y"][0], 0.333333) << "six digits";
}

TEST_F(ReportTest, NumbersThatAreNotFiniteAreNull) {
  ReportData data;
  data.sections.push_back(
      {"c", "", ReportCharts{{{"t", "", {{"a", {1, 2, 3}, {NAN, INFINITY, 1}}}}}}});
  const json curve = charts_in(page(data)).at(0)["curves"][0];
  EXPECT_EQ(curve["y"], json::parse("[null,null,1]"));
  EXPECT_EQ(curve["gaps"], 2);
  EXPECT_EQ(curve["first_gap"], 1);
}

TEST_F(ReportTest, TablesSetNumbersRight) {
  ReportData data;
  data.sections.push_back(
      {"e", "",
       ReportTable{{"model", "bits", "share", "note"},
                   {{"a", "1.5", "12 %", "3 runs"}, {"b", "-2e-3", "–", "x"}}}});
  const std::string text = page(data);
  EXPECT_THAT(text, HasSubstr("<tr><th>model</th><th class=\"number\">bits</th><th "
                              "class=\"number\">share</th><th>note</th></tr>"));
  EXPECT_THAT(text, HasSubstr("<td class=\"number\">-2e-3</td>"));
}

TEST_F(ReportTest, MediaAreEmbedded) {
  ReportData data;
  data.sections.push_back(
      {"m", "", ReportMedia{{{"image/png", "foobar", "a \"dot\""}, {"audio/wav", "foo", ""}}}});
  EXPECT_THAT(
      page(data),
      AllOf(
          HasSubstr("<img loading=\"lazy\" alt=\"a &quot;dot&quot;\" "
                    "src=\"data:image/png;base64,Zm9vYmFy\">"),
          HasSubstr(
              "<audio controls preload=\"metadata\" src=\"data:audio/wav;base64,Zm9v\"></audio>")));
}

TEST_F(ReportTest, EmptyDataMakesAPageToo) {
  EXPECT_THAT(page({}), HasSubstr("</html>"));
  ReportData data{
      "t",
      "",
      {},
      {},
      {{"Curves", "", metric_charts({})}, {"E", "", ReportTable{}}, {"S", "", ReportSamples{}}}};
  EXPECT_THAT(page(data), AllOf(HasSubstr("No steps were recorded."), Not(HasSubstr("<script"))));
  data.sections[0].body = ReportCharts{{{"t", "", {{"a", {}, {}}}}}};
  EXPECT_THAT(page(data), HasSubstr("No steps were recorded.")) << "a curve without points is none";
}

TEST_F(ReportTest, DataThatDoesNotFitIsRefused) {
  auto complaint = [&](ReportSection section) {
    ReportData data;
    data.sections.push_back(std::move(section));
    try {
      write_report(file(), data);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(complaint({"Eval", "", ReportTable{{"a", "b"}, {{"1"}}}}),
              HasSubstr("table 'Eval' has 2 columns and a row of 1"));
  EXPECT_THAT(complaint({"c", "", ReportCharts{{{"Loss", "", {{"train", {1, 2}, {1}}}}}}}),
              HasSubstr("chart 'Loss', curve 'train': 2 x for 1 y"));
  EXPECT_THAT(complaint({"m", "", ReportMedia{{{"text/html", "<b>", ""}}}}),
              HasSubstr("'text/html'"));
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(ReportTest, AFailureNamesTheFileAndLeavesTheOldPage) {
  page({"old"});
  std::filesystem::create_symlink("/dev/full", file() + ".part");
  EXPECT_THAT([&] { write_report(file(), {"new"}); },
              ThrowsMessage<Error>(AllOf(HasSubstr(file()), HasSubstr("No space left"))));
  std::ostringstream text;
  text << std::ifstream(file()).rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("<title>old</title>"));
  EXPECT_THAT([&] { write_report(dir_ + "/none/report.html", {}); },
              ThrowsMessage<Error>(HasSubstr(dir_ + "/none/")));
}

}  // namespace
}  // namespace veomni
