// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "scratch.h"
#include "veomni/base/log.h"
#include "veomni/base/rng.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
using testing::HasSubstr;

// `count` texts of 1 to 12 words, each with its number, so that samples differ.
std::string text_file(int count, const std::string& word) {
  KeyedRng rng(count, word);
  std::string file;
  for (int i = 0; i < count; ++i) {
    for (uint64_t words = 1 + rng.below(12); words > 0; --words) file += word + " ";
    file += std::to_string(i) + "\n";
  }
  return file;
}

struct Files {
  ScratchDir dir;
  DataOptions options;
  Files() {
    options.sources = {
        {.name = "cats", .path = dir.write("a.txt", text_file(50, "cat")), .weight = 3},
        {.name = "dogs", .path = dir.write("b.txt", text_file(31, "dog")), .weight = 1}};
    options.open_bins = 3;
  }
};

constexpr int64_t kBudget = 48;
LoaderPlan plan(int64_t accumulation = 1, int dp_rank = 0, int dp_size = 1, uint64_t seed = 5) {
  return {.seed = seed,
          .micro_batch_tokens = kBudget,
          .accumulation = accumulation,
          .dp_rank = dp_rank,
          .dp_size = dp_size};
}

// The records of the next step's first micro-batch.
std::vector<int64_t> next_records(Loader& loader) {
  const std::vector<MicroBatch> step = loader.next();
  std::vector<int64_t> records;
  for (const Sample& sample : step[0].samples) records.push_back(sample.ref.record);
  return records;
}

using Bin = std::vector<std::vector<int32_t>>;
Bin content(const MicroBatch& micro_batch) {
  Bin bin;
  for (const Sample& sample : micro_batch.samples) {
    bin.push_back(sample.ids);
    bin.back().insert(bin.back().end(), sample.labels.begin(), sample.labels.end());
    bin.back().push_back(static_cast<int32_t>(sample.id));
  }
  return bin;
}

std::vector<Bin> take(Loader& loader, int steps) {
  std::vector<Bin> bins;
  for (int i = 0; i < steps; ++i) {
    for (const MicroBatch& micro_batch : loader.next()) bins.push_back(content(micro_batch));
  }
  return bins;
}
}  // namespace

TEST(Loader, MicroBatchesFitAndStepsAreComplete) {
  const Files files;
  Loader loader(files.options, plan(3), small_tokenizer());
  for (int step = 0; step < 30; ++step) {
    const auto micro_batches = loader.next();
    ASSERT_EQ(micro_batches.size(), 3u);
    for (const MicroBatch& micro_batch : micro_batches) {
      EXPECT_LE(micro_batch.num_tokens(), kBudget);
      EXPECT_GE(micro_batch.num_tokens(), 1);
    }
  }
}

TEST(Loader, StreamDoesNotDependOnRanksAccumulationOrPrefetch) {
  Files files;
  Loader one(files.options, plan(), small_tokenizer());
  const std::vector<Bin> stream = take(one, 48);
  for (const int64_t prefetch : {0, 1, 5}) {
    files.options.prefetch = prefetch;
    for (const int dp_size : {1, 2, 3, 4}) {
      for (const int64_t accumulation : {1, 2}) {
        for (int rank = 0; rank < dp_size; ++rank) {
          Loader loader(files.options, plan(accumulation, rank, dp_size), small_tokenizer());
          const std::vector<Bin> mine = take(loader, 4);
          for (size_t i = 0; i < mine.size(); ++i) ASSERT_EQ(mine[i], stream[i * dp_size + rank]);
        }
      }
    }
  }
}

TEST(Loader, SeedAndShuffleDecideTheOrder) {
  Files files;
  Loader first(files.options, plan(), small_tokenizer()),
      same(files.options, plan(), small_tokenizer());
  Loader other(files.options, plan(1, 0, 1, 6), small_tokenizer());
  const auto stream = take(first, 10);
  EXPECT_EQ(take(same, 10), stream);
  EXPECT_NE(take(other, 10), stream);
  files.options.sources.resize(1);
  files.options.shuffle = false;
  files.options.open_bins = 1;
  Loader in_order(files.options, plan(), small_tokenizer());
  std::vector<int64_t> records;
  for (int i = 0; i < 10; ++i) {
    for (const int64_t record : next_records(in_order)) records.push_back(record);
  }
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(records[i], static_cast<int64_t>(i % 50));
}

TEST(Loader, EveryEpochHasEveryRecordOnceInAnotherOrder) {
  Files files;
  files.options.sources.resize(1);
  files.options.open_bins = 1;  // samples keep the drawn order
  Loader loader(files.options, plan(), small_tokenizer());
  std::vector<int64_t> records;
  while (records.size() < 150) {
    for (const int64_t record : next_records(loader)) records.push_back(record);
  }
  std::set<std::vector<int64_t>> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order(records.begin() + epoch * 50, records.begin() + (epoch + 1) * 50);
    orders.insert(order);
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 50u);
  }
  EXPECT_EQ(orders.size(), 3u);
  EXPECT_GE(loader.counts()[0].epoch, 3);
}

// 4,000 draws with p = 3/4: six standard deviations are 0.041.
TEST(Loader, MixesByWeight) {
  const Files files;
  Loader loader(files.options, plan(), small_tokenizer());
  while (loader.counts()[0].records + loader.counts()[1].records < 4000) loader.next();
  const auto counts = loader.counts();
  const double share = static_cast<double>(counts[0].records) /
                       static_cast<double>(counts[0].records + counts[1].records);
  EXPECT_NEAR(share, 0.75, 0.041);
  EXPECT_EQ(counts[0].name, "cats");
  EXPECT_EQ(counts[0].samples, counts[0].records);
}

TEST(Loader, WeightZeroIsNeverDrawn) {
  Files files;
  files.options.sources[0].weight = 0;
  Loader loader(files.options, plan(), small_tokenizer());
  take(loader, 30);
  EXPECT_EQ(loader.counts()[0].records, 0);
}

TEST(Loader, RestoreContinuesBitEqual) {
  Files files;
  for (const int64_t prefetch : {0, 3}) {
    files.options.prefetch = prefetch;
    Loader whole(files.options, plan(2), small_tokenizer());
    take(whole, 7);  // in the second epoch of `cats`, bins open
    const nlohmann::json state = nlohmann::json::parse(whole.state().dump());
    const auto counts = whole.counts();
    const std::vector<Bin> rest = take(whole, 20);

    Loader resumed(files.options, plan(2), small_tokenizer());
    take(resumed, 3);  // restoring a loader that has worked
    resumed.restore(state);
    EXPECT_EQ(resumed.state(), state);
    EXPECT_EQ(resumed.counts()[0].records, counts[0].records);
    EXPECT_EQ(take(resumed, 20), rest);
    EXPECT_EQ(resumed.state(), whole.state());
  }
}

TEST(Loader, StateBelongsToWhatWasHandedOut) {
  Files files;
  files.options.prefetch = 6;
  Loader eager(files.options, plan(), small_tokenizer());
  files.options.prefetch = 0;
  Loader lazy(files.options, plan(), small_tokenizer());
  EXPECT_EQ(eager.state(), lazy.state());
  for (int i = 0; i < 20; ++i) {
    eager.next();
    lazy.next();
    ASSERT_EQ(eager.state(), lazy.state());
  }
}

TEST(Loader, RestoresWithAnotherNumberOfRanks) {
  const Files files;
  Loader one(files.options, plan(4), small_tokenizer());
  take(one, 5);
  const nlohmann::json state = one.state();
  const std::vector<Bin> rest = take(one, 3);  // 12 micro-batches
  for (int rank = 0; rank < 2; ++rank) {
    Loader two(files.options, plan(2, rank, 2), small_tokenizer());
    two.restore(state);
    const std::vector<Bin> mine = take(two, 3);
    for (size_t i = 0; i < mine.size(); ++i) EXPECT_EQ(mine[i], rest[i * 2 + rank]);
  }
}

TEST(Loader, RestoresInTheMiddleOfSplitTexts) {
  Files files;
  files.options.sources = {
      {.name = "long", .path = files.dir.write("long.txt", text_file(20, "abcdefghijkl"))}};
  files.options.long_sample = "split";
  files.options.max_sample_tokens = 7;
  Loader whole(files.options, plan(), small_tokenizer());
  for (int i = 0; i < 40; ++i) {
    whole.next();
    Loader resumed(files.options, plan(), small_tokenizer());
    resumed.restore(whole.state());
    ASSERT_EQ(resumed.state(), whole.state());
    Loader again(files.options, plan(), small_tokenizer());
    again.restore(whole.state());
    ASSERT_EQ(take(resumed, 2), take(again, 2));
  }
  EXPECT_GT(whole.counts()[0].split, 0);
}

TEST(Loader, RefusesAStateThatDoesNotFit) {
  const Files files;
  Loader loader(files.options, plan(), small_tokenizer());
  take(loader, 3);
  const nlohmann::json good = loader.state();
  const auto refusal = [&](const nlohmann::json& state, const DataOptions& options,
                           const LoaderPlan& p) -> std::string {
    try {
      Loader other(options, p, small_tokenizer());
      other.restore(state);
    } catch (const Error& error) {
      return error.what();
    }
    return "(it was restored)";
  };
  EXPECT_THAT(refusal(good, files.options, plan(1, 0, 1, 6)), HasSubstr("seed was 5, is 6"));
  DataOptions options = files.options;
  options.sources[0].name = "birds";
  EXPECT_THAT(refusal(good, options, plan()), HasSubstr("source 0 was 'cats', is 'birds'"));
  options = files.options;
  options.sources.resize(1);
  EXPECT_THAT(refusal(good, options, plan()), HasSubstr("it has 2 sources, the recipe 1"));
  options = files.options;
  options.sources[0].path = files.dir.write("longer.txt", text_file(51, "cat"));
  EXPECT_THAT(refusal(good, options, plan()), HasSubstr("had 50 records, now has 51"));
  options = files.options;
  options.sources[0].drop_condition = 0.5;
  EXPECT_THAT(refusal(good, options, plan()), HasSubstr("'cats' had drop_condition 0.0, now has"));
  options = files.options;
  options.long_sample = "split";
  EXPECT_THAT(refusal(good, options, plan()), HasSubstr("long_sample"));
  nlohmann::json bad = good;
  bad["open"] = {{{0, 999, 0, 0}}};
  EXPECT_THAT(refusal(bad, files.options, plan()), HasSubstr("record 999"));
  bad = good;
  bad["sources"][0]["position"] = 50;
  EXPECT_THAT(refusal(bad, files.options, plan()), HasSubstr("position 50"));
  bad.erase("draws");
  EXPECT_THAT(refusal(bad, files.options, plan()), HasSubstr("malformed"));
  EXPECT_THAT(refusal(nullptr, files.options, plan()), HasSubstr("malformed"));
}

TEST(Loader, BadRecordsAreSkippedNamedAndCounted) {
  const ScratchDir dir;
  std::string file;
  for (int i = 0; i < 40; ++i)
    file += i % 4 == 1 ? "not json\n" : "{\"text\": \"the cat " + std::to_string(i) + "\"}\n";
  DataOptions options;
  options.sources = {{.name = "mixed", .path = dir.write("a.jsonl", file)}};
  options.shuffle = false;
  std::vector<std::string> lines;
  auto before = log::set_sink([&](log::Level, const std::string& line) { lines.push_back(line); });
  {
    Loader loader(options, plan(), small_tokenizer());
    while (loader.counts()[0].epoch < 1) loader.next();
    const SourceCounts counts = loader.counts()[0];
    EXPECT_GE(counts.bad, 10);
    EXPECT_GE(counts.records, 30);
    EXPECT_EQ(counts.bad, loader.state()["sources"][0]["bad"].get<int64_t>());
  }
  log::set_sink(before);
  ASSERT_EQ(lines.size(), 1u);  // the first; the next would be the hundredth
  EXPECT_THAT(lines[0], HasSubstr("a.jsonl:2: not JSON"));
}

TEST(Loader, BadRecordsCanBeFatal) {
  const ScratchDir dir;
  DataOptions options;
  options.sources = {
      {.name = "mixed", .path = dir.write("a.jsonl", "{\"text\": \"the cat\"}\nnot json\n")}};
  options.on_bad_record = "fail";
  for (const int64_t prefetch : {0, 2}) {
    options.prefetch = prefetch;
    Loader loader(options, plan(), small_tokenizer());
    for (int call = 0; call < 2; ++call) {  // and again on every later call
      try {
        for (int i = 0; i < 100; ++i) loader.next();
        FAIL() << "the bad record went unnoticed";
      } catch (const BadRecord& bad) {
        EXPECT_THAT(bad.what(), HasSubstr("a.jsonl:2: not JSON"));
      }
    }
  }
}

TEST(Loader, ASourceWithoutAnyUsableRecordIsAnError) {
  const ScratchDir dir;
  DataOptions options;
  options.sources = {{.name = "bad", .path = dir.write("a.jsonl", "{}\n{}\n{}\n")}};
  auto before = log::set_sink([](log::Level, const std::string&) {});
  Loader loader(options, plan(), small_tokenizer());
  EXPECT_THROW(loader.next(), Error);
  log::set_sink(before);
}

TEST(Loader, CanBeDroppedWhileItPrefetches) {
  Files files;
  files.options.prefetch = 50;
  for (int i = 0; i < 20; ++i) {
    Loader loader(files.options, plan(), small_tokenizer());
    if (i % 2) loader.next();
  }
}

TEST(Loader, RefusesWrongOptions) {
  const Files files;
  const auto refused = [&](const DataOptions& options, const LoaderPlan& p) {
    EXPECT_THROW(Loader(options, p, small_tokenizer()), ConfigError);
  };
  refused({}, plan());
  refused(files.options, plan(0));
  refused(files.options, plan(1, 2, 2));
  DataOptions options = files.options;
  options.sources[1].name = "cats";
  refused(options, plan());
  options = files.options;
  for (SourceOptions& source : options.sources) source.weight = 0;
  refused(options, plan());
}

TEST(DataOptions, ReadsARecipeSection) {
  DataOptions options;
  const auto node = YAML::Load(
      "{sources: [{path: a.jsonl, weight: 2}], template: plain, on_bad_record: fail, long_sample: "
      "split}");
  read_fields({"recipe.yaml"}, node, options, "data");
  EXPECT_EQ(options.sources.at(0).path, "a.jsonl");
  EXPECT_EQ(options.chat_template, "plain");
  const auto media = YAML::Load(
      "media:\n  image: {begin: <|vision_bos|>, pad: <|IMAGE|>, end: <|vision_eos|>}\n"
      "  audio: {end: \"\"}\n");
  read_fields({"recipe.yaml"}, media, options, "data");
  EXPECT_EQ(options.media.image.begin, "<|vision_bos|>");
  EXPECT_EQ(options.media.image.pad, "<|IMAGE|>");
  EXPECT_EQ(options.media.audio.pad, "<|AUDIO|>");
  EXPECT_EQ(options.media.audio.end, "");
  EXPECT_THROW(read_fields({"recipe.yaml"}, YAML::Load("{on_bad_record: ignore}"), options, "data"),
               ConfigError);
  EXPECT_THROW(read_fields({"recipe.yaml"}, YAML::Load("{sources: [{pth: a}]}"), options, "data"),
               ConfigError);
}

}  // namespace veomni::data
