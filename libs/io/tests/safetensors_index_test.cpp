// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/safetensors_index.h"
#include "test_files.h"
#include "veomni/io/json_fields.h"

namespace veomni::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<uint8_t> kData = {10, 11, 12, 13, 14, 15, 16, 17};

/// Writes tensors named `names`, 4 bytes each.
void put_shard(const std::string& path, const std::vector<std::string>& names) {
  std::vector<TensorEntry> entries;
  for (const std::string& name : names)
    entries.push_back({name, DType::U8, {4}, bytes_of(kData).subspan(0, 4)});
  write_safetensors(path, entries);
}

const char* const kIndex = "model.safetensors.index.json";

TEST(SafetensorsIndex, OneFileGivesAbsoluteOffsets) {
  const ScratchDir dir;
  write_safetensors(dir / "model.safetensors",
                    std::vector<TensorEntry>{{"a", DType::I32, {1}, bytes_of(kData).subspan(0, 4)},
                                             {"b", DType::U8, {2, 2}, bytes_of(kData).subspan(4)}});
  const auto index = SafetensorsIndex::open(dir.path());
  const TensorLocation& b = index.at("b");
  EXPECT_EQ(b.file, dir / "model.safetensors");
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(b.bytes, 4u);
  EXPECT_EQ(file_text(b.file).substr(b.offset, 4), "\x0e\x0f\x10\x11");
  EXPECT_THAT(message_of([&] { index.at("bb"); }), HasSubstr("no tensor 'bb'; did you mean b"));
}

TEST(SafetensorsIndex, ShardsAreFoundThroughTheIndex) {
  const ScratchDir dir;
  put_shard(dir / "s1.safetensors", {"a", "unnamed"});
  put_shard(dir / "s2.safetensors", {"b"});
  put_file(dir / kIndex, R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  const auto index = SafetensorsIndex::open(dir.path());
  EXPECT_EQ(index.at("a").file, dir / "s1.safetensors");
  EXPECT_EQ(index.at("b").file, dir / "s2.safetensors");
  EXPECT_EQ(index.at("unnamed").file, dir / "s1.safetensors");
}

TEST(SafetensorsIndex, BrokenIndexesAreNamed) {
  const ScratchDir dir;
  const auto open_error = [&] { return message_of([&] { SafetensorsIndex::open(dir.path()); }); };
  EXPECT_THAT(open_error(), HasSubstr("holds neither model.safetensors nor"));
  put_file(dir / kIndex, R"({"weight_map":{"a":"gone.safetensors"}})");
  EXPECT_THAT(open_error(), HasSubstr("gone.safetensors does not exist"));
  put_shard(dir / "s1.safetensors", {"a"});
  put_file(dir / kIndex, R"({"weight_map":{"a":"s1.safetensors","b":"s1.safetensors"}})");
  EXPECT_THAT(open_error(), HasSubstr("tensor 'b' is in s1.safetensors, which does not hold it"));
  put_file(dir / kIndex, R"({"weight_map":{"a":"../s1.safetensors"}})");
  EXPECT_THAT(open_error(), HasSubstr("needs a plain file name"));
  put_file(dir / kIndex, R"({"weight_map":{"a":1}})");
  EXPECT_THAT(open_error(), HasSubstr("no file name for tensor 'a'"));
  put_file(dir / kIndex, R"({"weights":{}})");
  EXPECT_THAT(open_error(), HasSubstr("'weight_map' is missing"));
  put_file(dir / kIndex, "{\n  nope");
  EXPECT_THAT(open_error(), HasSubstr("line 2, column 4"));
  put_shard(dir / "s1.safetensors", {"a", "x"});
  put_shard(dir / "s2.safetensors", {"b", "x"});
  put_file(dir / kIndex, R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  EXPECT_THAT(open_error(), HasSubstr("'x' is in both s1.safetensors and s2.safetensors"));
}

TEST(PlanShards, FillsInOrderAndLetsAGiantStandAlone) {
  const std::vector<TensorDecl> tensors = {{"a", DType::U8, {4}},
                                           {"b", DType::U8, {4}},
                                           {"c", DType::U8, {1}},
                                           {"giant", DType::U8, {99}},
                                           {"d", DType::U8, {8}}};
  EXPECT_THAT(plan_shards(tensors, 8),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2), ElementsAre(3), ElementsAre(4)));
  EXPECT_THAT(plan_shards({}, 8), ElementsAre(ElementsAre()));
  EXPECT_THROW(plan_shards(tensors, 0), ConfigError);
}

void save(const ScratchDir& dir, uint64_t max_shard_bytes) {
  ShardedSafetensorsWriter writer(
      dir.path(), {{"a", DType::U8, {8}}, {"b", DType::U8, {4}}, {"c", DType::U8, {4}}},
      {{"format", "pt"}}, max_shard_bytes);
  writer.write("c", bytes_of(kData).subspan(4));
  writer.write("a", bytes_of(kData));
  writer.write("b", bytes_of(kData).subspan(0, 2));
  writer.write("b", bytes_of(kData).subspan(2, 2), 2);
  writer.finish();
}

TEST(ShardedWriter, WritesShardsAndAnIndexThatReadBack) {
  const ScratchDir dir;
  save(dir, 8);
  EXPECT_THAT(dir.names(), ElementsAre("model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors", kIndex));
  const auto index_json = read_json_file(dir / kIndex);
  EXPECT_EQ(index_json["metadata"]["total_size"], 16);
  EXPECT_EQ(index_json["weight_map"]["c"], "model-00002-of-00002.safetensors");
  const auto index = SafetensorsIndex::open(dir.path());
  const TensorLocation& c = index.at("c");
  EXPECT_EQ(file_text(c.file).substr(c.offset, c.bytes), "\x0e\x0f\x10\x11");
}

TEST(ShardedWriter, ALaterSaveReplacesTheFilesOfAnEarlierOne) {
  const ScratchDir dir;
  save(dir, 8);
  save(dir, 100);
  EXPECT_THAT(dir.names(), ElementsAre("model.safetensors"));
  save(dir, 4);
  EXPECT_THAT(dir.names(),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", kIndex));
}

TEST(ShardedWriter, AnUnfinishedSaveLeavesNothing) {
  const ScratchDir dir;
  {
    ShardedSafetensorsWriter writer(dir.path(), {{"a", DType::U8, {8}}, {"b", DType::U8, {8}}}, {},
                                    8);
    writer.write("a", bytes_of(kData));
    EXPECT_THAT(message_of([&] { writer.finish(); }), HasSubstr("0 of 8 bytes of tensor 'b'"));
    EXPECT_THAT(message_of([&] { writer.write("z", {}); }), HasSubstr("'z' was not declared"));
  }
  EXPECT_FALSE(std::filesystem::exists(dir / kIndex));
}

}  // namespace
}  // namespace veomni::io
