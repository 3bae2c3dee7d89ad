// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace veomni {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct OptimOptions {
  double lr = 1e-3;
  int64_t warmup_steps = 0;
  std::vector<double> betas = {0.9, 0.95};
  std::string name = "adamw";
};
template <typename Visitor> void visit_fields(Visitor& v, OptimOptions& o) {
  v("lr", o.lr, "peak learning rate", more_than(0));
  v("warmup_steps", o.warmup_steps, "steps of linear warm-up", at_least(0));
  v("betas", o.betas, "decay rates", between(0, 1));
  v("name", o.name, "the optimizer", one_of({"adamw", "sgd"}));
}

struct SourceOptions {
  std::string path;
  int repeat = 1;
};
template <typename Visitor> void visit_fields(Visitor& v, SourceOptions& o) {
  v("path", o.path, "a file");
  v("repeat", o.repeat, "times a pass", at_least(1));
}

struct RecipeOptions {
  bool resume = false;
  std::optional<int64_t> seed;
  OptimOptions optim;
  std::vector<SourceOptions> sources;
  std::map<std::string, OptimOptions> groups;
};
template <typename Visitor> void visit_fields(Visitor& v, RecipeOptions& o) {
  v("resume", o.resume, "go on from the last checkpoint");
  v("seed", o.seed, "the run's seed");
  v("optim", o.optim, "the optimizer");
  v("sources", o.sources, "what to train on");
  v("groups", o.groups, "settings by module path");
}

RecipeOptions parse(const std::string& yaml) {
  RecipeOptions options;
  read_fields({"job.yaml"}, YAML::Load(yaml), options);
  return options;
}

std::string complaint(const std::string& yaml) {
  try {
    parse(yaml);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Fields, ReadsEveryKindOfField) {
  const auto o = parse(R"(
resume: true
seed: 7
optim: {lr: 3e-4, warmup_steps: 1e3, betas: [0.8, 0.9, 1], name: sgd}
sources: [{path: a.jsonl, repeat: 2}, {path: "12"}]
groups:
  foundation.embed: {lr: 0.1}
)");
  EXPECT_TRUE(o.resume);
  EXPECT_EQ(o.seed, 7);
  EXPECT_EQ(o.optim.lr, 3e-4);
  EXPECT_EQ(o.optim.warmup_steps, 1000) << "1e3 is a whole number";
  EXPECT_THAT(o.optim.betas, ElementsAre(0.8, 0.9, 1.0)) << "a list replaces the default";
  EXPECT_EQ(o.optim.name, "sgd");
  ASSERT_EQ(o.sources.size(), 2u);
  EXPECT_EQ(o.sources[0].repeat, 2);
  EXPECT_EQ(o.sources[1].path, "12");
  EXPECT_EQ(o.sources[1].repeat, 1);
  ASSERT_TRUE(o.groups.contains("foundation.embed")) << "a name with dots is one name";
  EXPECT_EQ(o.groups.at("foundation.embed").lr, 0.1);
}

TEST(Fields, ASingleValueIsAListOfOne) {
  EXPECT_THAT(parse("optim: {betas: 0.8}").optim.betas, ElementsAre(0.8));
  EXPECT_THAT(complaint("optim: {betas: fast}"), HasSubstr("optim.betas must be a number"));
  EXPECT_THAT(complaint("optim: {betas: 2}"), HasSubstr("optim.betas must be between 0 and 1"));
}

struct OpenOptions {
  YAML::Node extra;
};
template <typename Visitor> void visit_fields(Visitor& v, OpenOptions& o) {
  v("extra", o.extra, "anything");
}

TEST(Fields, ANodeTakesAnythingAndIsWrittenAsItIs) {
  OpenOptions o;
  read_fields({"job.yaml"}, YAML::Load("extra: {a: [1, {b: c}]}"), o);
  EXPECT_EQ(o.extra["a"][1]["b"].as<std::string>(), "c");
  FieldWriter writer;
  visit_fields(writer, o);
  EXPECT_EQ(writer.node["extra"]["a"][0].as<int>(), 1);
}

TEST(Fields, AbsentAndNullKeysKeepTheirDefaults) {
  for (const char* yaml : {"", "optim:", "optim: {lr: ~}", "seed: null", "{}"}) {
    const auto o = parse(yaml);
    EXPECT_EQ(o.optim.lr, 1e-3) << yaml;
    EXPECT_FALSE(o.seed.has_value()) << yaml;
  }
}

TEST(Fields, AnUnknownKeyNamesFileLineAndTheNearest) {
  EXPECT_EQ(complaint("resume: true\noptim:\n  warmup_step: 10\n"),
            "job.yaml:3: unknown key 'optim.warmup_step'; did you mean 'optim.warmup_steps'? "
            "(known here: lr, warmup_steps, betas, name)");
  EXPECT_THAT(complaint("sources: [{path: a}, {pathh: b}]"), HasSubstr("'sources[1].pathh'"));
}

TEST(Fields, AWrongTypeNamesTheKeyAndTheValueSeen) {
  EXPECT_EQ(complaint("optim:\n  lr: fast\n"), "job.yaml:2: optim.lr must be a number, got 'fast'");
  EXPECT_EQ(complaint("optim: {warmup_steps: 1.5}"),
            "job.yaml:1: optim.warmup_steps must be a whole number, got '1.5'");
  EXPECT_EQ(complaint("resume: 3"), "job.yaml:1: resume must be true or false, got '3'");
  EXPECT_EQ(complaint("sources: a.jsonl"), "job.yaml:1: sources must be a list, got 'a.jsonl'");
  EXPECT_EQ(complaint("optim: 3"),
            "job.yaml:1: optim must be a section of keys and values, got '3'");
  EXPECT_EQ(complaint("groups: [1]"), "job.yaml:1: groups must be a section of names");
  EXPECT_EQ(complaint("optim: {name: [a]}"), "job.yaml:1: optim.name must be text");
  EXPECT_EQ(complaint("- a\n- b\n"), "job.yaml:1: the recipe must be a section of keys and values");
}

TEST(Fields, NumbersOutOfRangeOrNotFiniteAreRefused) {
  EXPECT_THAT(complaint("optim: {lr: 0}"), HasSubstr("optim.lr must be more than 0, got '0'"));
  EXPECT_THAT(complaint("optim: {lr: .nan}"), HasSubstr("optim.lr must be finite"));
  EXPECT_THAT(complaint("optim: {lr: .inf}"), HasSubstr("optim.lr must be finite"));
  EXPECT_THAT(complaint("optim: {warmup_steps: -1}"), HasSubstr("must be at least 0"));
  EXPECT_THAT(complaint("optim: {warmup_steps: 1e300}"), HasSubstr("must be a whole number"));
  EXPECT_THAT(complaint("sources: [{path: a, repeat: 3000000000}]"),
              HasSubstr("sources[0].repeat must fit 32 bits"));
  EXPECT_THAT(complaint("optim: {betas: [0.9, 1.5]}"),
              HasSubstr("optim.betas[1] must be between 0 and 1, got '1.5'"));
}

TEST(Fields, AChoiceNamesTheNearest) {
  EXPECT_EQ(complaint("optim: {name: adam}"),
            "job.yaml:1: optim.name must be one of adamw, sgd (did you mean adamw?), got 'adam'");
}

TEST(Fields, WhatIsWrittenReadsBack) {
  auto o = parse("{seed: 5, optim: {lr: 0.1}, sources: [{path: a}], groups: {x: {name: sgd}}}");
  FieldWriter writer;
  visit_fields(writer, o);
  const auto again = parse(YAML::Dump(writer.node));
  EXPECT_EQ(again.seed, 5);
  EXPECT_EQ(again.optim.lr, 0.1);
  EXPECT_EQ(again.sources.at(0).path, "a");
  EXPECT_EQ(again.groups.at("x").name, "sgd");

  RecipeOptions empty;
  FieldWriter defaults;
  visit_fields(defaults, empty);
  EXPECT_FALSE(defaults.node["seed"].IsDefined()) << "an optional without value is left out";
  EXPECT_EQ(defaults.node["optim"]["lr"].as<double>(), 1e-3) << "defaults are spelt out";
}

TEST(Fields, EveryFieldIsDocumented) {
  RecipeOptions o;
  FieldDocs docs;
  visit_fields(docs, o);
  std::map<std::string, FieldDoc> by_path;
  for (const auto& doc : docs.docs) {
    EXPECT_FALSE(doc.help.empty()) << doc.path;
    EXPECT_TRUE(by_path.emplace(doc.path, doc).second) << doc.path << " twice";
  }
  EXPECT_EQ(by_path["resume"].value, "false");
  EXPECT_EQ(by_path["optim.lr"].value, "0.001");
  EXPECT_EQ(by_path["optim.lr"].must_be, "more than 0");
  EXPECT_EQ(by_path["groups.NAME.warmup_steps"].value, "0");
  EXPECT_TRUE(by_path.contains("sources[].path"));
  // resume, seed, optim and its 4, sources and its 2, groups and its 4
  EXPECT_EQ(docs.docs.size(), 15u);
}

TEST(LoadYamlFile, NamesTheFileAndTheLine) {
  const auto dir = std::filesystem::temp_directory_path() / "veomni_fields_test";
  std::filesystem::create_directories(dir);
  const std::string good = dir / "good.yaml", bad = dir / "bad.yaml";
  std::ofstream(good) << "a: 1\n";
  std::ofstream(bad) << "a: 1\nb: [1, 2\nc: 3\n";
  EXPECT_EQ(load_yaml_file(good)["a"].as<int>(), 1);
  EXPECT_THAT([&] { load_yaml_file(bad); },
              ThrowsMessage<ConfigError>(AllOf(HasSubstr(bad + ":"), HasSubstr("not valid YAML"))));
  EXPECT_THAT([&] { load_yaml_file((dir / "none.yaml").string()); },
              ThrowsMessage<ConfigError>(HasSubstr("no such file")));
  EXPECT_THAT([&] { load_yaml_file(dir.string()); },
              ThrowsMessage<ConfigError>(HasSubstr("no such file")));
  std::filesystem::remove_all(dir);
}

TEST(SetByPath, SetsAndMakesSections) {
  YAML::Node root = YAML::Load("optim: {lr: 1, name: sgd}");
  set_by_path(root, "optim.lr", "1e-3");
  set_by_path(root, "data.sources", "[{path: a}]");
  set_by_path(root, "resume", "true");
  EXPECT_EQ(root["optim"]["lr"].as<double>(), 1e-3);
  EXPECT_EQ(root["optim"]["name"].as<std::string>(), "sgd") << "its neighbours stay";
  EXPECT_EQ(root["data"]["sources"][0]["path"].as<std::string>(), "a");
  EXPECT_TRUE(root["resume"].as<bool>());
}

TEST(SetByPath, WorksOnAnEmptyRecipe) {
  for (YAML::Node root : {YAML::Node(), YAML::Load(""), YAML::Load("{}")}) {
    set_by_path(root, "optim.lr", "2");
    EXPECT_EQ(root["optim"]["lr"].as<int>(), 2);
  }
}

TEST(SetByPath, ComplainsOfWhatItCannotSet) {
  YAML::Node root = YAML::Load("optim: {lr: 1}");
  EXPECT_THAT([&] { set_by_path(root, "optim.lr.x", "1"); },
              ThrowsMessage<ConfigError>(HasSubstr("'optim.lr' is a value, not a section")));
  EXPECT_THAT([&] { set_by_path(root, "optim..x", "1"); },
              ThrowsMessage<ConfigError>(HasSubstr("empty name")));
  YAML::Node list = YAML::Load("[1]");
  EXPECT_THAT([&] { set_by_path(list, "a", "1"); },
              ThrowsMessage<ConfigError>(HasSubstr("not a section")));
  EXPECT_THAT([&] { set_by_path(root, "optim.lr", "[1"); },
              ThrowsMessage<ConfigError>(HasSubstr("not valid YAML")));
}

}  // namespace
}  // namespace veomni
