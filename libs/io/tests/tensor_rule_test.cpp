// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/tensor_rule.h"
#include "test_files.h"

namespace veomni::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const TensorRule kEmbedding = {.param = "embedding.weight", .files = {"model.embed_tokens.weight"}};
const TensorRule kGateUp = {.param = "layers.{}.mlp.gate_up",
                            .files = {"model.layers.{}.gate.weight", "model.layers.{}.up.weight"},
                            .combine = Combine::kConcat};
const TensorRule kExperts = {
    .param = "layers.{}.experts.gate_up",
    .files = {"model.layers.{}.experts.{e}.gate", "model.layers.{}.experts.{e}.up"},
    .combine = Combine::kStackOfConcat};
const TensorRule kDown = {.param = "layers.{}.experts.down",
                          .files = {"model.layers.{}.experts.{e}.down"},
                          .combine = Combine::kStack};

TEST(RuleSet, NamesAndShapesAreExpanded) {
  const RuleSet rules({kEmbedding, kGateUp, kExperts, kDown});
  EXPECT_THAT(rules.resolve({"embedding.weight", {8, 4}}).parts,
              ElementsAre(FilePart{"model.embed_tokens.weight", {8, 4}, 0}));
  EXPECT_THAT(rules.resolve({"layers.12.mlp.gate_up", {6, 4}}).parts,
              ElementsAre(FilePart{"model.layers.12.gate.weight", {3, 4}, 0},
                          FilePart{"model.layers.12.up.weight", {3, 4}, 12}));
  EXPECT_THAT(rules.resolve({"layers.0.experts.gate_up", {2, 6, 4}}).parts,
              ElementsAre(FilePart{"model.layers.0.experts.0.gate", {3, 4}, 0},
                          FilePart{"model.layers.0.experts.0.up", {3, 4}, 12},
                          FilePart{"model.layers.0.experts.1.gate", {3, 4}, 24},
                          FilePart{"model.layers.0.experts.1.up", {3, 4}, 36}));
  EXPECT_THAT(rules.resolve({"layers.0.experts.down", {2, 4, 3}}).parts,
              ElementsAre(FilePart{"model.layers.0.experts.0.down", {4, 3}, 0},
                          FilePart{"model.layers.0.experts.1.down", {4, 3}, 12}));
}

TEST(RuleSet, UnequalRowsAndReshape) {
  const RuleSet rules(
      {{.param = "qkv", .files = {"q", "k", "v"}, .combine = Combine::kConcat, .rows = {4, 2, 2}},
       {.param = "patch.{}.{}", .files = {"conv.{}.{}"}, .reshape = {-1, 3, 2, 2}}});
  EXPECT_THAT(
      rules.resolve({"qkv", {8, 5}}).parts,
      ElementsAre(FilePart{"q", {4, 5}, 0}, FilePart{"k", {2, 5}, 20}, FilePart{"v", {2, 5}, 30}));
  EXPECT_THAT(rules.resolve({"patch.1.22", {7, 12}}).parts,
              ElementsAre(FilePart{"conv.1.22", {7, 3, 2, 2}, 0}));
  EXPECT_THAT(message_of([&] {
                rules.resolve({"qkv", {9, 5}});
              }),
              HasSubstr("9 rows to split, the rule gives 8"));
  EXPECT_THAT(message_of([&] {
                rules.resolve({"patch.0.0", {7, 11}});
              }),
              HasSubstr("cannot be reshaped"));
}

TEST(RuleSet, ParametersWithoutOneRuleAreRefused) {
  const RuleSet rules({kGateUp,
                       {.param = "layers.{}.mlp.{}", .files = {"a.{}.{}"}},
                       {.param = "layers.1.x", .files = {"x"}},
                       {.param = "layers.{}.x", .files = {"x.{}"}}});
  EXPECT_THAT(message_of([&] {
                rules.resolve({"layers.a.mlp.gate_up", {2}});
              }),
              HasSubstr("'layers.a.mlp.gate_up' of shape [2] is fed by no tensor rule"));
  EXPECT_THAT(message_of([&] {
                rules.resolve({"layers.1.x.y", {2}});
              }),
              HasSubstr("no tensor rule"));
  EXPECT_THAT(message_of([&] {
                rules.resolve({"layers.1.x", {2}});
              }),
              HasSubstr("two tensor rules take"));
  EXPECT_THAT(message_of([&] {
                rules.resolve({"layers.1.mlp.gate_up", {5, 4}});
              }),
              HasSubstr("2 equal file tensors"));
  EXPECT_THAT(message_of([&] {
                rules.resolve({"layers.1.mlp.gate_up", {}});
              }),
              HasSubstr("too few dims"));
}

TEST(RuleSet, OneFileTensorFeedsOneParameter) {
  const std::vector<TensorRule> table = {{.param = "a", .files = {"w"}},
                                         {.param = "b", .files = {"w"}}};
  EXPECT_THAT(message_of([&] {
                RuleSet(table).resolve_all({{"a", {1}}, {"b", {1}}});
              }),
              HasSubstr("'w' feeds both a and b"));
}

TEST(RuleSet, APartOfAWholeModelIsRenamedAndTheRestIgnored) {
  const TensorRule head = {.param = "lm_head.weight", .files = {"lm_head.weight"}};
  const RuleSet own({kEmbedding, kGateUp, head}, {"model.layers.*.inv_freq", "*.running"});
  const RuleSet whole = own.under({{"model.", "model.language_model."}, {"lm_head.", "lm_head."}});
  EXPECT_THAT(whole.resolve({"layers.3.mlp.gate_up", {6, 4}}).parts,
              ElementsAre(FilePart{"model.language_model.layers.3.gate.weight", {3, 4}, 0},
                          FilePart{"model.language_model.layers.3.up.weight", {3, 4}, 12}));
  EXPECT_EQ(whole.resolve({"lm_head.weight", {8, 4}}).parts[0].tensor, "lm_head.weight");
  EXPECT_TRUE(whole.ignores("model.visual.patch_embed.weight"));
  EXPECT_TRUE(whole.ignores("model.language_model.layers.0.inv_freq"));
  EXPECT_TRUE(whole.ignores("model.language_model.norm.running"));
  EXPECT_FALSE(whole.ignores("model.language_model.layers.0.gate.weight"));
  EXPECT_FALSE(whole.ignores("lm_head.bias"));
  EXPECT_FALSE(own.ignores("model.visual.patch_embed.weight"));
}

TEST(RuleSet, TheLongestLeadNamesATensor) {
  const RuleSet own({kEmbedding, {.param = "bias", .files = {"bias"}}}, {"old"});
  const RuleSet all = own.under({{"", "tower."}, {"model.embed", "table.embed"}});
  EXPECT_EQ(all.resolve({"embedding.weight", {8, 4}}).parts[0].tensor, "table.embed_tokens.weight");
  EXPECT_EQ(all.resolve({"bias", {4}}).parts[0].tensor, "tower.bias");
  EXPECT_TRUE(all.ignores("tower.old"));
  EXPECT_FALSE(all.ignores("tower.new"));
  EXPECT_THAT(message_of([&] { own.under({{"model.", "language."}}); }), HasSubstr("'bias'"));
}

TEST(RuleSet, MalformedRulesAreRefusedAtRegistration) {
  const auto complaint = [](TensorRule rule) {
    return message_of([&] { RuleSet(std::vector<TensorRule>{rule}); });
  };
  EXPECT_THAT(complaint({.param = "a", .files = {"x", "y"}, .combine = Combine::kConcat, .dim = 1}),
              HasSubstr("joins dim 1: only dim 0 is row-major contiguous"));
  EXPECT_THAT(complaint({.param = "a", .files = {}}), HasSubstr("at least one file tensor"));
  EXPECT_THAT(complaint({.param = "a", .files = {"x", "y"}}), HasSubstr("takes one"));
  EXPECT_THAT(complaint({.param = "a.{}", .files = {"x"}}), HasSubstr("another number of {}"));
  EXPECT_THAT(complaint({.param = "a", .files = {"x.{e}"}}), HasSubstr("no {e}"));
  EXPECT_THAT(complaint({.param = "a", .files = {"x"}, .combine = Combine::kStack}),
              HasSubstr("one {e}"));
  EXPECT_THAT(complaint({.param = "a.{e}", .files = {"x"}}), HasSubstr("holds all experts"));
  EXPECT_THAT(complaint({.param = "a", .files = {"x"}, .reshape = {-1, -1}}),
              HasSubstr("more than one -1"));
  EXPECT_THAT(complaint({.param = "a", .files = {"x"}, .reshape = {-2}}), HasSubstr("negative"));
  EXPECT_THAT(
      complaint({.param = "a", .files = {"x", "y"}, .combine = Combine::kConcat, .reshape = {2}}),
      HasSubstr("kOnly alone"));
  EXPECT_THAT(
      complaint({.param = "a", .files = {"x", "y"}, .combine = Combine::kConcat, .rows = {2}}),
      HasSubstr("1 rows for 2"));
}

/// An index whose tensors lie one after the other in file "w", 4 bytes an element.
SafetensorsIndex index_of(const std::vector<FilePart>& parts) {
  SafetensorsIndex index;
  uint64_t offset = 1000;
  for (const FilePart& part : parts) {
    const uint64_t bytes = 4 * static_cast<uint64_t>(num_elements(part.shape));
    index.add(part.tensor, {"w", DType::F32, part.shape, offset, bytes});
    offset += bytes + 100;  // others lie between
  }
  return index;
}

TEST(PlanRead, EachRankReadsOnlyItsBytes) {
  const RuleSet rules({kGateUp});
  const auto param = rules.resolve({"layers.0.mlp.gate_up", {6, 4}});
  const auto index = index_of(param.parts);  // gate at 1000, up at 1148, 48 bytes each
  EXPECT_THAT(plan_read(param, index, ShardSpec::whole({6, 4})).ranges,
              ElementsAre(ByteRange{"w", 1000, 48, 0}, ByteRange{"w", 1148, 48, 48}));
  EXPECT_THAT(plan_read(param, index, ShardSpec::rows({6, 4}, 0, 4)).ranges,
              ElementsAre(ByteRange{"w", 1000, 32, 0}));
  const ReadPlan middle = plan_read(param, index, ShardSpec::rows({6, 4}, 1, 4));
  EXPECT_THAT(middle.ranges,
              ElementsAre(ByteRange{"w", 1032, 16, 0}, ByteRange{"w", 1148, 16, 16}));
  EXPECT_EQ(middle.bytes, 32u);
  EXPECT_EQ(middle.dtype, DType::F32);
  EXPECT_THAT(plan_read(param, index, ShardSpec::rows({6, 4}, 3, 4)).ranges, IsEmpty());
}

TEST(PlanRead, NeighboursInTheFileBecomeOneRange) {
  const RuleSet rules({kGateUp});
  const auto param = rules.resolve({"layers.0.mlp.gate_up", {6, 4}});
  SafetensorsIndex index;
  index.add("model.layers.0.gate.weight", {"w", DType::BF16, {3, 4}, 100, 24});
  index.add("model.layers.0.up.weight", {"w", DType::BF16, {3, 4}, 124, 24});
  EXPECT_THAT(plan_read(param, index, ShardSpec::whole({6, 4})).ranges,
              ElementsAre(ByteRange{"w", 100, 48, 0}));
}

TEST(PlanRead, DisagreementsNameBothShapes) {
  const RuleSet rules({kGateUp});
  const auto param = rules.resolve({"layers.0.mlp.gate_up", {6, 4}});
  EXPECT_THAT(message_of([&] {
                plan_read(param, SafetensorsIndex(), ShardSpec::whole({6, 4}));
              }),
              HasSubstr("no tensor 'model.layers.0.gate.weight' of shape [3, 4]"));
  SafetensorsIndex wrong;
  wrong.add("model.layers.0.gate.weight", {"w", DType::F32, {3, 5}, 0, 60});
  EXPECT_THAT(message_of([&] {
                plan_read(param, wrong, ShardSpec::whole({6, 4}));
              }),
              HasSubstr("has shape [3, 5], parameter 'layers.0.mlp.gate_up' [6, 4] needs [3, 4]"));
  EXPECT_THAT(message_of([&] {
                plan_read(param, index_of(param.parts), ShardSpec::whole({6, 5}));
              }),
              HasSubstr("has shape [6, 4], its shard is of [6, 5]"));
  SafetensorsIndex mixed;
  mixed.add("model.layers.0.gate.weight", {"w", DType::F32, {3, 4}, 0, 48});
  mixed.add("model.layers.0.up.weight", {"w", DType::BF16, {3, 4}, 48, 24});
  EXPECT_THAT(message_of([&] {
                plan_read(param, mixed, ShardSpec::whole({6, 4}));
              }),
              HasSubstr("F32 and"));
}

TEST(CheckComplete, NamesLeftoversOfBothSides) {
  const RuleSet rules({kEmbedding, kGateUp}, {"*.inv_freq"});
  const auto params =
      rules.resolve_all({{"embedding.weight", {8, 4}}, {"layers.0.mlp.gate_up", {6, 4}}});
  SafetensorsIndex index;
  index.add("model.embed_tokens.weight", {"w", DType::F32, {8, 4}, 0, 128});
  index.add("model.layers.0.gate.weight", {"w", DType::F32, {3, 4}, 128, 48});
  index.add("model.layers.0.rotary_emb.inv_freq", {"w", DType::F32, {2}, 176, 8});
  index.add("lm_head.weight", {"w", DType::F32, {8, 4}, 184, 128});
  const std::string message = message_of([&] { check_complete(params, index, rules); });
  EXPECT_THAT(message,
              HasSubstr("lacks tensors that the model needs: 'model.layers.0.up.weight' [3, 4]"));
  EXPECT_THAT(message, HasSubstr("holds tensors that no rule takes: 'lm_head.weight' [8, 4]"));
  EXPECT_THAT(message, ::testing::Not(HasSubstr("inv_freq")));

  const RuleSet tied({kEmbedding, kGateUp}, {"*.inv_freq", "lm_head.weight"});
  index.add("model.layers.0.up.weight", {"w", DType::F32, {3, 4}, 400, 48});
  EXPECT_NO_THROW(check_complete(params, index, tied));
}

TEST(CheckComplete, APartAnswersForAllThatBeginsLikeIt) {
  const RuleSet rules = RuleSet(std::vector<TensorRule>{{.param = "bias", .files = {"bias"}}})
                            .under({{"", "visual."}});
  SafetensorsIndex index;
  index.add("visual.bias", {"w", DType::F32, {2}, 0, 8});
  index.add("model.norm.weight", {"w", DType::F32, {2}, 8, 8});
  const auto params = rules.resolve_all({{"bias", {2}}});
  EXPECT_NO_THROW(check_complete(params, index, rules));
  index.add("visual.more", {"w", DType::F32, {2}, 16, 8});
  EXPECT_THAT(message_of([&] { check_complete(params, index, rules); }),
              HasSubstr("no rule takes: 'visual.more' [2]"));
}

TEST(CheckComplete, ManyLeftoversStayReadable) {
  SafetensorsIndex index;
  for (int i = 100; i < 150; ++i) index.add("x" + std::to_string(i), {"w", DType::U8, {1}, 0, 1});
  const std::string message =
      message_of([&] { check_complete({}, index, RuleSet(std::vector<TensorRule>{})); });
  EXPECT_THAT(message, HasSubstr("'x109' [1] and 40 more"));
}

/// Saves every parameter from shards, then reads it in another layout: all through real files.
class RoundTrip : public ::testing::Test {
 protected:
  const RuleSet rules_{{kEmbedding, kGateUp, kExperts, kDown}};
  const std::vector<ParamParts> params_ =
      rules_.resolve_all({{"embedding.weight", {7, 2}},
                          {"layers.0.mlp.gate_up", {10, 3}},
                          {"layers.0.experts.gate_up", {3, 4, 2}},
                          {"layers.0.experts.down", {3, 2, 5}}});

  static std::vector<float> value(const ParamParts& param) {
    std::vector<float> full(static_cast<size_t>(num_elements(param.shape)));
    for (size_t i = 0; i < full.size(); ++i)
      full[i] = static_cast<float>(i * 10 + param.param.size() % 10);
    return full;
  }

  static std::vector<float> shard_of(const std::vector<float>& full, const ShardSpec& spec) {
    std::vector<float> shard;
    for (const ElementRun& run : element_runs(spec)) {
      shard.insert(shard.end(), full.begin() + run.full_begin,
                   full.begin() + run.full_begin + run.length);
    }
    return shard;
  }

  void save(const std::string& directory,
            const std::function<ShardSpec(const ParamParts&, int)>& layout, int world) {
    std::vector<TensorDecl> tensors;
    for (const ParamParts& param : params_) {
      for (TensorDecl& tensor : declare(param, DType::F32)) tensors.push_back(std::move(tensor));
    }
    ShardedSafetensorsWriter writer(directory, tensors, {}, 100);
    for (const ParamParts& param : params_) {
      for (int rank = 0; rank < world; ++rank) {
        const ShardSpec mine = layout(param, rank);
        const std::vector<float> shard = shard_of(value(param), mine);
        for (const WriteRange& range : plan_write(param, DType::F32, mine)) {
          writer.write(range.tensor, bytes_of(shard).subspan(range.source_offset, range.length),
                       range.tensor_offset);
        }
      }
    }
    writer.finish();
  }
};

TEST_F(RoundTrip, AnyLayoutReadsWhatAnyLayoutWrote) {
  const auto rows4 = [](const ParamParts& p, int rank) {
    return ShardSpec::rows(p.shape, rank, 4);
  };
  const auto dim1 = [](const ParamParts& p, int rank) {
    return ShardSpec::whole(p.shape).with(1, shard_rows(p.shape[1], rank, 2));
  };
  const auto both = [](const ParamParts& p, int rank) {
    return ShardSpec::rows(p.shape, rank / 2, 2).with(1, shard_rows(p.shape[1], rank % 2, 2));
  };
  const std::vector<std::pair<std::function<ShardSpec(const ParamParts&, int)>, int>> layouts = {
      {rows4, 4}, {dim1, 2}, {both, 4}};
  for (const auto& [written, writers] : layouts) {
    const ScratchDir dir;
    save(dir.path(), written, writers);
    const auto index = SafetensorsIndex::open(dir.path());
    EXPECT_NO_THROW(check_complete(params_, index, rules_));
    for (const auto& [read, readers] : layouts) {
      for (const ParamParts& param : params_) {
        for (int rank = 0; rank < readers; ++rank) {
          const ShardSpec mine = read(param, rank);
          const ReadPlan plan = plan_read(param, index, mine);
          std::vector<float> shard(static_cast<size_t>(mine.local_numel()), -1.0f);
          read_planned(plan, std::as_writable_bytes(std::span(shard)));
          EXPECT_EQ(shard, shard_of(value(param), mine)) << param.param << " rank " << rank;
        }
      }
    }
  }
}

TEST(ReadPlanned, ShrunkAndVanishedFilesAreNamed) {
  const ScratchDir dir;
  put_file(dir / "w", "12345678");
  std::vector<std::byte> buffer(8);
  EXPECT_NO_THROW(read_planned({DType::U8, 8, {{dir / "w", 0, 8, 0}}}, buffer));
  EXPECT_THAT(message_of([&] {
                read_planned({DType::U8, 8, {{dir / "w", 4, 8, 0}}}, buffer);
              }),
              HasSubstr("w ends at byte 8"));
  EXPECT_THAT(message_of([&] {
                read_planned({DType::U8, 8, {{dir / "gone", 4, 8, 0}}}, buffer);
              }),
              HasSubstr("gone: No such file"));
  EXPECT_THAT(message_of([&] {
                read_planned({DType::U8, 9, {}}, buffer);
              }),
              HasSubstr("a buffer of 8 bytes"));
}

}  // namespace
}  // namespace veomni::io
