// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/eval_stream.h"

#include <gtest/gtest.h>

#include "scratch.h"
#include "veomni/base/log.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
DataOptions two_sources(const ScratchDir& dir) {
  std::string a, b;
  for (int i = 0; i < 23; ++i) a += "the cat " + std::to_string(i) + "\n";
  for (int i = 0; i < 9; ++i)
    b += "{\"messages\": [{\"role\": \"assistant\", \"content\": \"dog " + std::to_string(i) +
         "\"}]}\n";
  DataOptions options;
  options.sources = {{.name = "a", .path = dir.write("a.txt", a)},
                     {.name = "b", .path = dir.write("b.jsonl", b), .weight = 0}};
  return options;
}

LoaderPlan plan(int rank = 0, int size = 1) {
  return {.micro_batch_tokens = 40, .dp_rank = rank, .dp_size = size};
}

std::vector<SampleRef> walk(EvalStream& stream) {
  std::vector<SampleRef> refs;
  while (auto micro_batch = stream.next()) {
    EXPECT_LE(micro_batch->num_tokens(), 40);
    for (const Sample& sample : micro_batch->samples) refs.push_back(sample.ref);
  }
  return refs;
}
}  // namespace

TEST(EvalStream, EveryRecordOnceInOrder) {
  const ScratchDir dir;
  EvalStream stream(two_sources(dir), plan(), small_tokenizer());
  std::vector<SampleRef> expected;
  for (int i = 0; i < 23; ++i) expected.push_back({0, i, 0});
  for (int i = 0; i < 9; ++i) expected.push_back({1, i, 0});
  EXPECT_EQ(walk(stream), expected);
  EXPECT_FALSE(stream.next());
  EXPECT_EQ(stream.counts()[0].records, 23);
  stream.rewind();
  EXPECT_EQ(stream.counts()[0].records, 0);
  EXPECT_EQ(walk(stream), expected);
}

TEST(EvalStream, RanksGetEquallyManyAndTogetherAll) {
  const ScratchDir dir;
  const DataOptions options = two_sources(dir);
  EvalStream whole(options, plan(), small_tokenizer());
  std::vector<std::vector<SampleRef>> bins;
  while (auto micro_batch = whole.next()) {
    auto& bin = bins.emplace_back();
    for (const Sample& sample : micro_batch->samples) bin.push_back(sample.ref);
  }
  for (const int ranks : {2, 3, 4, 64}) {
    const size_t rounds = (bins.size() + ranks - 1) / ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      EvalStream stream(options, plan(rank, ranks), small_tokenizer());
      size_t round = 0;
      while (auto micro_batch = stream.next()) {
        std::vector<SampleRef> bin;
        for (const Sample& sample : micro_batch->samples) bin.push_back(sample.ref);
        const size_t global = round * ranks + rank;
        EXPECT_EQ(bin, global < bins.size() ? bins[global] : std::vector<SampleRef>{});
        ++round;
      }
      EXPECT_EQ(round, rounds);
    }
  }
}

TEST(EvalStream, MaxRecordsOfEachSource) {
  const ScratchDir dir;
  EvalStream stream(two_sources(dir), plan(), small_tokenizer(), 10);
  EXPECT_EQ(walk(stream).size(), 10u + 9u);
}

TEST(EvalStream, BadRecords) {
  const ScratchDir dir;
  DataOptions options;
  options.sources = {{.path = dir.write("a.jsonl", "{}\n{}\n")}};
  auto before = log::set_sink([](log::Level, const std::string&) {});
  EvalStream skipping(options, plan(), small_tokenizer());
  EXPECT_FALSE(skipping.next());  // finite, so nothing usable is no error
  EXPECT_EQ(skipping.counts()[0].bad, 2);
  log::set_sink(before);
  options.on_bad_record = "fail";
  EvalStream failing(options, plan(), small_tokenizer());
  EXPECT_THROW(failing.next(), BadRecord);
}

}  // namespace veomni::data
