// SPDX-License-Identifier: Apache-2.0
// Streams of records with pictures and sound.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "fake_processor.h"
#include "scratch.h"
#include "veomni/base/log.h"
#include "veomni/base/rng.h"
#include "veomni/data/eval_stream.h"
#include "veomni/data/loader.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
using nlohmann::json;
using testing::HasSubstr;

// A record of text, pictures in the question or a picture in the answer, some of it bad.
json record(int i, KeyedRng& rng) {
  const auto grid = [&] {
    return "1 " + std::to_string(1 + rng.below(3)) + " " + std::to_string(1 + rng.below(3)) + " " +
           std::to_string(i);
  };
  const auto part = [&](const std::string& bytes) {
    return json{{"type", "image"}, {"image", data_uri(bytes)}};
  };
  json question = json::array({{{"type", "text"}, {"text", "the cat " + std::to_string(i)}}});
  json answer = json::array({{{"type", "text"}, {"text", "a dog"}}});
  for (uint64_t left = rng.below(3); left > 0; --left) question.push_back(part(grid()));
  if (rng.below(3) == 0) answer.push_back(part(grid()));
  if (rng.below(8) == 0) question.push_back(part("broken"));
  return {
      {"messages",
       {{{"role", "user"}, {"content", question}}, {{"role", "assistant"}, {"content", answer}}}}};
}

std::string record_file(int count, const std::string& name) {
  KeyedRng rng(count, name);
  std::string file;
  for (int i = 0; i < count; ++i) file += record(i, rng).dump() + "\n";
  return file;
}

struct Files {
  ScratchDir dir;
  DataOptions options;
  Files() {
    options.sources = {
        {.name = "talk", .path = dir.write("talk.jsonl", record_file(40, "talk")), .weight = 2},
        {.name = "text",
         .path = dir.write("text.txt", "the cat\nthe dog\na plant\n"),
         .weight = 1}};
    options.open_bins = 3;
    log_before =
        log::set_sink([this](log::Level, const std::string& line) { lines.push_back(line); });
  }
  ~Files() { log::set_sink(log_before); }
  std::vector<std::string> lines;
  log::Sink log_before;
};

LoaderPlan plan(int64_t accumulation = 1, int dp_rank = 0, int dp_size = 1, uint64_t seed = 5) {
  return {.seed = seed,
          .micro_batch_tokens = 96,
          .accumulation = accumulation,
          .dp_rank = dp_rank,
          .dp_size = dp_size};
}

// Everything of a micro-batch that a model sees, and where it comes from.
json content(const MicroBatch& micro_batch) {
  json all = json::array();
  for (const Sample& sample : micro_batch.samples) {
    json media = json::array();
    for (const MediaItem& item : sample.media) {
      media.push_back({item.modality, item.target, item.begin, item.features->values,
                       item.features->grid, item.features->tokens});
    }
    all.push_back({sample.ids, sample.labels, sample.id, sample.target_bytes, media,
                   sample.ref.source, sample.ref.record, sample.ref.chunk, sample.ref.epoch});
  }
  return all;
}

std::vector<json> take(Loader& loader, int steps) {
  std::vector<json> bins;
  for (int i = 0; i < steps; ++i) {
    for (const MicroBatch& micro_batch : loader.next()) bins.push_back(content(micro_batch));
  }
  return bins;
}
}  // namespace

TEST(MediaLoader, TheStreamDoesNotDependOnThreadsPrefetchOrRanks) {
  Files files;
  files.options.decode_threads = 0;
  files.options.prefetch = 0;
  Loader one(files.options, plan(), small_tokenizer(), fake_processors());
  const std::vector<json> stream = take(one, 24);
  const json state = one.state();
  size_t pictures = 0;
  for (const json& bin : stream) {
    for (const json& sample : bin) pictures += sample[4].size();
  }
  EXPECT_GT(pictures, 20u);
  EXPECT_GT(one.counts()[0].bad, 2);
  EXPECT_GT(one.counts()[0].epoch, 0);
  for (const int64_t threads : {1, 2, 5}) {
    for (const int64_t prefetch : {0, 3}) {
      files.options.decode_threads = threads;
      files.options.prefetch = prefetch;
      Loader loader(files.options, plan(), small_tokenizer(), fake_processors(true));
      ASSERT_EQ(take(loader, 24), stream) << threads;
      ASSERT_EQ(loader.state(), state);
      for (int rank = 0; rank < 2; ++rank) {
        Loader half(files.options, plan(2, rank, 2), small_tokenizer(), fake_processors(true));
        const std::vector<json> mine = take(half, 3);
        for (size_t i = 0; i < mine.size(); ++i) ASSERT_EQ(mine[i], stream[i * 2 + rank]);
      }
    }
  }
}

TEST(MediaLoader, RestoreContinuesBitEqual) {
  Files files;
  files.options.sources[0].drop_condition = 0.5;
  for (const int64_t threads : {0, 3}) {
    files.options.decode_threads = threads;
    Loader whole(files.options, plan(2), small_tokenizer(), fake_processors(true));
    for (int round = 0; round < 6; ++round) {
      take(whole, 3);
      const json state = json::parse(whole.state().dump());
      Loader resumed(files.options, plan(2), small_tokenizer(), fake_processors(true));
      take(resumed, 1);
      resumed.restore(state);
      EXPECT_EQ(resumed.state(), state);
      Loader again(files.options, plan(2), small_tokenizer(), fake_processors());
      again.restore(state);
      const std::vector<json> rest = take(resumed, 6);
      ASSERT_EQ(take(again, 6), rest);
      Loader fresh(files.options, plan(2), small_tokenizer(), fake_processors());
      const std::vector<json> from_start = take(fresh, 3 * (round + 1) + 6);
      ASSERT_EQ(std::vector<json>(from_start.end() - 12, from_start.end()), rest);
    }
  }
}

TEST(MediaLoader, BadMediaAreCountedNamedAndSkipped) {
  Files files;
  files.options.sources = {
      {.name = "pics",
       .path = files.dir.write(
           "p.jsonl",
           R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "absent.png"}]}, {"role": "assistant", "content": "a"}]})"
           "\n"
           R"({"messages": [{"role": "assistant", "content": "the cat"}]})"
           "\n")}};
  files.options.shuffle = false;
  const std::string reason =
      "p.jsonl:1: image " + files.dir.path() + "/absent.png: cannot be opened";
  {
    Loader loader(files.options, plan(), small_tokenizer(), fake_processors());
    while (loader.counts()[0].epoch < 2) loader.next();
    EXPECT_GE(loader.counts()[0].bad, 2);
  }
  ASSERT_EQ(files.lines.size(), 1u);
  EXPECT_THAT(files.lines[0], HasSubstr(reason));
  files.options.on_bad_record = "fail";
  Loader strict(files.options, plan(), small_tokenizer(), fake_processors());
  try {
    strict.next();
    FAIL() << "the bad picture went unnoticed";
  } catch (const BadRecord& bad) {
    EXPECT_THAT(bad.what(), HasSubstr(reason));
  }
}

TEST(MediaLoader, AModelWithoutTheEncoderSaysSo) {
  Files files;
  files.options.on_bad_record = "fail";
  files.options.shuffle = false;
  Loader loader(files.options, plan(), small_tokenizer());
  try {
    for (int i = 0; i < 20; ++i) loader.next();
    FAIL() << "pictures went unnoticed";
  } catch (const BadRecord& bad) {
    EXPECT_THAT(bad.what(), testing::ContainsRegex(
                                "no (en|de)coder for 'image'; add model.(en|de)coders.image"));
  }
}

// 400 conversations with p = 0.3: six standard deviations are 55.
TEST(MediaLoader, DropsTheConditionOfAShareAnewInEveryEpoch) {
  Files files;
  std::string file;
  for (int i = 0; i < 400; ++i) {
    file += json{{"messages",
                  {{{"role", "user"}, {"content", "the cat " + std::to_string(i)}},
                   {{"role", "assistant"}, {"content", "a dog"}}}}}
                .dump() +
            "\n";
  }
  files.options.sources = {
      {.name = "a", .path = files.dir.write("a.jsonl", file), .drop_condition = 0.3}};
  const std::vector<int32_t> dropped_ids = small_tokenizer().encode(
      "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\na dog<|im_end|>\n");
  // By epoch and record.
  const auto drops = [&](const LoaderPlan& p, int64_t threads) {
    files.options.decode_threads = threads;
    Loader loader(files.options, p, small_tokenizer(), fake_processors());
    std::map<std::pair<int64_t, int64_t>, bool> found;
    while (loader.counts()[0].epoch < 3) {
      for (const MicroBatch& micro_batch : loader.next()) {
        for (const Sample& sample : micro_batch.samples)
          found[{sample.ref.epoch, sample.ref.record}] = sample.ids == dropped_ids;
      }
    }
    return found;
  };
  const auto all = drops(plan(), 0);
  int counts[2] = {0, 0}, differ = 0;
  for (int64_t i = 0; i < 400; ++i) {
    const bool first = all.at({0, i}), second = all.at({1, i});
    counts[0] += first;
    counts[1] += second;
    differ += first != second;
  }
  for (const int count : counts) EXPECT_NEAR(count, 120, 55);
  EXPECT_GT(differ, 50);
  for (const auto& [key, dropped] : drops(plan(1, 1, 2), 2)) {
    if (all.count(key) == 0) continue;  // of a later epoch
    EXPECT_EQ(dropped, all.at(key));
  }
}

TEST(MediaLoader, OnlyTargetsNeedsNoTokenizer) {
  Files files;
  std::string file;
  for (int i = 0; i < 30; ++i) {
    const std::string grid = "1 2 " + std::to_string(1 + i % 3) + " " + std::to_string(i);
    file += i % 2 ? json{{"image", data_uri(grid)}}.dump() + "\n"
                  : json{{"images", {data_uri(grid), data_uri("1 1 1 7")}}}.dump() + "\n";
  }
  files.options.sources = {{.name = "pics", .path = files.dir.write("pics.jsonl", file)}};
  MediaProcessors processors = fake_processors();
  processors.only_targets = true;
  Loader loader(files.options, plan(), Tokenizer(), processors);
  const std::vector<json> first = take(loader, 3);
  const json state = loader.state();
  const std::vector<json> rest = take(loader, 5);
  Loader resumed(files.options, plan(), Tokenizer(), processors);
  resumed.restore(state);
  EXPECT_EQ(take(resumed, 5), rest);
  for (const json& sample : first[0]) {
    EXPECT_EQ(sample[4].size(), 1u);
    EXPECT_EQ(sample[4][0][5].get<size_t>(), sample[0].size());
  }
  EvalStream eval(files.options, plan(), Tokenizer(), 0, processors);
  size_t samples = 0;
  while (const auto micro_batch = eval.next()) samples += micro_batch->samples.size();
  EXPECT_EQ(samples, 45u);
}

TEST(MediaLoader, EvaluationDropsNothingAndKeepsTheFilesOrder) {
  Files files;
  files.options.sources[0].drop_condition = 1;
  const auto walk = [&](int64_t threads) {
    files.options.decode_threads = threads;
    EvalStream stream(files.options, plan(), small_tokenizer(), 0, fake_processors(true));
    std::vector<json> bins;
    for (int round = 0; round < 2; ++round) {
      while (const auto micro_batch = stream.next()) bins.push_back(content(*micro_batch));
      stream.rewind();
    }
    return bins;
  };
  const std::vector<json> bins = walk(0);
  EXPECT_EQ(walk(3), bins);
  int64_t last = -1;
  for (const json& bin : bins) {
    for (const json& sample : bin) {
      if (sample[5] != 0) break;
      const int64_t number = sample[6].get<int64_t>();
      EXPECT_TRUE(number > last || last > 30);
      last = number;
    }
  }
  const std::vector<int32_t> ids = bins[0][0][0].get<std::vector<int32_t>>();
  EXPECT_THAT(small_tokenizer().decode(ids), HasSubstr("the cat"));
}

TEST(MediaLoader, CanBeDroppedWhileThreadsDecode) {
  Files files;
  files.options.prefetch = 20;
  for (int i = 0; i < 10; ++i) {
    Loader loader(files.options, plan(), small_tokenizer(), fake_processors(true));
    if (i % 2) loader.next();
  }
}

}  // namespace veomni::data
