// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/shard_spec.h"
#include "test_files.h"
#include "veomni/io/dtype.h"

namespace veomni::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ShardRows, LastRankMayBeShort) {
  EXPECT_EQ(shard_rows(10, 0, 4), (Slice{0, 3}));
  EXPECT_EQ(shard_rows(10, 3, 4), (Slice{9, 1}));
}

TEST(ShardRows, RanksBeyondTheRowsOwnNone) {
  EXPECT_EQ(shard_rows(5, 2, 4), (Slice{4, 1}));
  EXPECT_EQ(shard_rows(5, 3, 4), (Slice{5, 0}));
  EXPECT_EQ(shard_rows(0, 1, 2), (Slice{0, 0}));
}

TEST(ShardRows, RanksTileTheRows) {
  for (int64_t rows = 0; rows < 40; ++rows) {
    for (int world = 1; world < 12; ++world) {
      int64_t next = 0;
      for (int rank = 0; rank < world; ++rank) {
        const Slice slice = shard_rows(rows, rank, world);
        EXPECT_EQ(slice.begin, next);
        next += slice.length;
      }
      EXPECT_EQ(next, rows);
    }
  }
}

TEST(ShardRows, ImpossibleRanksAreRefused) {
  EXPECT_THROW(shard_rows(4, 2, 2), Error);
  EXPECT_THROW(shard_rows(4, -1, 2), Error);
  EXPECT_THROW(shard_rows(4, 0, 0), Error);
  EXPECT_THROW(shard_rows(-1, 0, 1), Error);
  EXPECT_EQ(shard_rows(INT64_MAX, 0, 2).length, INT64_MAX / 2 + 1);
}

TEST(ShardSpec, LocalShapeFollowsTheSlices) {
  const auto spec = ShardSpec::rows({10, 6}, 3, 4);
  EXPECT_THAT(spec.local_shape(), ElementsAre(1, 6));
  EXPECT_THAT(spec.with(1, {2, 3}).local_shape(), ElementsAre(1, 3));
  EXPECT_EQ(spec.local_numel(), 6);
  EXPECT_EQ(spec.full_numel(), 60);
  EXPECT_FALSE(spec.is_whole());
  EXPECT_TRUE(ShardSpec::whole({10, 6}).is_whole());
  EXPECT_TRUE(ShardSpec::rows({10, 6}, 0, 1).is_whole());
  EXPECT_TRUE(ShardSpec::rows({}, 1, 2).is_whole());
}

TEST(ShardSpec, SlicesOutsideAreRefused) {
  const auto spec = ShardSpec::whole({4, 6});
  EXPECT_THAT(message_of([&] { spec.with(2, {0, 1}); }), HasSubstr("no dim 2 in the shape [4, 6]"));
  EXPECT_THAT(message_of([&] { spec.with(0, {3, 2}); }), HasSubstr("outside dim 0"));
  EXPECT_THAT(message_of([&] {
                spec.with(0, {0, 1}).with(0, {0, 1});
              }),
              HasSubstr("sharded already"));
}

TEST(ElementRuns, ShardOfDimZeroIsOneRun) {
  EXPECT_THAT(element_runs(ShardSpec::rows({10, 6}, 1, 4)), ElementsAre(ElementRun{18, 0, 18}));
  EXPECT_THAT(element_runs(ShardSpec::whole({10, 6})), ElementsAre(ElementRun{0, 0, 60}));
  EXPECT_THAT(element_runs(ShardSpec::whole({})), ElementsAre(ElementRun{0, 0, 1}));
  EXPECT_THAT(element_runs(ShardSpec::rows({5, 2}, 3, 4)), IsEmpty());
}

TEST(ElementRuns, ShardOfDimOneIsARunPerRow) {
  EXPECT_THAT(element_runs(ShardSpec::whole({2, 4, 3}).with(1, {1, 2})),
              ElementsAre(ElementRun{3, 0, 6}, ElementRun{15, 6, 6}));
}

/// Element by element, from the definition.
std::vector<int64_t> owned_elements(const ShardSpec& spec) {
  std::vector<int64_t> owned;
  for (int64_t at = 0; at < spec.full_numel(); ++at) {
    bool mine = true;
    int64_t rest = at;
    for (size_t d = spec.full_shape.size(); d-- > 0; rest /= spec.full_shape[d]) {
      for (const DimShard& shard : spec.shards) {
        const int64_t index = rest % spec.full_shape[d];
        if (shard.dim == static_cast<int64_t>(d))
          mine &= index >= shard.begin && index < shard.begin + shard.length;
      }
    }
    if (mine) owned.push_back(at);
  }
  return owned;
}

TEST(ElementRuns, AgreeWithTheDefinitionForEveryPairOfDims) {
  const std::vector<int64_t> shape = {3, 4, 2, 5};
  for (int64_t first = 0; first < 4; ++first) {
    for (int64_t second = 0; second < 4; ++second) {
      ShardSpec spec = ShardSpec::whole(shape).with(first, {1, shape[first] - 1});
      if (second != first) spec = spec.with(second, {0, shape[second] - 1});
      std::vector<int64_t> elements;
      for (const ElementRun& run : element_runs(spec)) {
        EXPECT_EQ(run.local_begin, static_cast<int64_t>(elements.size()));
        for (int64_t i = 0; i < run.length; ++i) elements.push_back(run.full_begin + i);
      }
      EXPECT_EQ(elements, owned_elements(spec)) << first << " " << second;
    }
  }
}

TEST(FlatRange, IsOneRunWhereverItBegins) {
  const auto spec = ShardSpec::flat_range({4, 6}, {5, 9});
  EXPECT_THAT(spec.local_shape(), ElementsAre(9));
  EXPECT_FALSE(spec.is_whole());
  EXPECT_TRUE(spec.is_sharded());
  EXPECT_THAT(element_runs(spec), ElementsAre(ElementRun{5, 0, 9}));
  EXPECT_THAT(element_runs(ShardSpec::flat_range({4, 6}, {24, 0})), IsEmpty());
  EXPECT_FALSE(ShardSpec::flat_range({6}, {0, 6}).is_whole()) << "its value is another tensor";
  EXPECT_THROW(ShardSpec::flat_range({4, 6}, {20, 5}), Error);
  EXPECT_THROW(spec.with(0, {0, 1}), Error);
}

TEST(Boxes, OfARangeAreRestOfARowRowsAndStartOfARow) {
  EXPECT_THAT(boxes(ShardSpec::flat_range({4, 6}, {5, 14})),
              ElementsAre(Box{{0, 5}, {1, 1}, 0}, Box{{1, 0}, {2, 6}, 1}, Box{{3, 0}, {1, 1}, 13}));
  EXPECT_THAT(boxes(ShardSpec::flat_range({}, {0, 1})), ElementsAre(Box{{}, {}, 0}));
  EXPECT_THAT(boxes(ShardSpec::rows({10, 6}, 3, 4)), ElementsAre(Box{{9, 0}, {1, 6}, 0}));
  EXPECT_THAT(boxes(ShardSpec::rows({5, 2}, 3, 4)), IsEmpty());
}

TEST(Boxes, CoverEveryFlatRangeOnceAndInOrder) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{7}, {3, 5}, {3, 1, 4}, {2, 3, 2, 2}}) {
    const int64_t numel = num_elements(shape);
    for (int64_t begin = 0; begin <= numel; ++begin) {
      for (int64_t length = 0; begin + length <= numel; ++length) {
        std::vector<int64_t> elements;
        const auto found = boxes(ShardSpec::flat_range(shape, {begin, length}));
        EXPECT_LE(found.size(), 2 * shape.size() - 1);
        for (const Box& box : found) {
          EXPECT_EQ(box.local_begin, static_cast<int64_t>(elements.size()));
          ShardSpec spec = ShardSpec::whole(shape);
          for (size_t d = 0; d < shape.size(); ++d)
            spec = spec.with(static_cast<int64_t>(d), {box.offsets[d], box.shape[d]});
          const auto owned = owned_elements(spec);
          elements.insert(elements.end(), owned.begin(), owned.end());
        }
        std::vector<int64_t> want(static_cast<size_t>(length));
        for (int64_t i = 0; i < length; ++i) want[static_cast<size_t>(i)] = begin + i;
        EXPECT_EQ(elements, want) << shape_text(shape) << " " << begin << " " << length;
      }
    }
  }
}

}  // namespace
}  // namespace veomni::io
