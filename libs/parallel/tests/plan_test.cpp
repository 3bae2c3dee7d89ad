// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "toy_model.h"
#include "veomni/comm/local.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::parallel {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using toy::ToyModel;

const MeshShape kFour = {1, 4, 1};

std::map<std::string, UnitPlan> units_of(const ParallelPlan& plan) {
  std::map<std::string, UnitPlan> units;
  for (const auto& unit : plan.units) units[unit.path] = unit;
  return units;
}

std::string config_error(const std::function<void()>& act) {
  try {
    act();
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "no ConfigError";
}

std::string plan_error(const ParallelOptions& options, const MeshShape& mesh = kFour) {
  ToyModel model({.device = torch::kMeta});
  return config_error([&] { make_plan(model, mesh, options); });
}

TEST(Plan, DefaultShardsEveryUnitAndKeepsTheRoot) {
  ToyModel model({.device = torch::kMeta});
  auto units = units_of(make_plan(model, kFour, {}));
  ASSERT_EQ(units.size(), 10u);
  EXPECT_FALSE(units.at("").reshard_after_forward);
  EXPECT_TRUE(units.at("layers.0").reshard_after_forward);
  EXPECT_TRUE(units.at("layers.0.mlp").reshard_after_forward);
  for (const auto& [path, unit] : units) {
    EXPECT_EQ(unit.strategy, "fsdp2") << path;
    EXPECT_FALSE(unit.recompute) << path;
  }
}

TEST(Plan, CountsBytes) {
  ToyModel model({.device = torch::kMeta, .dtype = torch::kBFloat16});
  for (auto& [path, parameter] : model.named_parameters()) {
    if (path == "pixels.bias") parameter.set_trainable(false);
  }
  // pixels: weight [5, 6], bias [6] (frozen), gate []; rank 0 of 4 has 2 rows of the weight, 2 of
  // the bias, the gate.
  auto pixels = units_of(make_plan(model, kFour, {})).at("pixels");
  EXPECT_EQ(pixels.numel, 30 + 6 + 1);
  EXPECT_EQ(pixels.gathered_bytes, 37 * 2);
  EXPECT_EQ(pixels.local_numel, 12 + 2 + 1);
  EXPECT_EQ(pixels.local_bytes, (12 + 1) * (2 + 4 + 4) + 2 * 2)
      << "bf16 copy, fp32 master, fp32 gradient";
  pixels = units_of(make_plan(model, kFour, {.defaults = {.param_dtype = "float32"}})).at("pixels");
  EXPECT_EQ(pixels.local_bytes, (12 + 1) * (4 + 4) + 2 * 4) << "the fp32 copy is its own master";
}

TEST(Plan, MoreSpecificEntriesWin) {
  ToyModel model({.device = torch::kMeta});
  ParallelOptions options;
  options.modules["layers.*"].reshard_after_forward = false;
  options.modules["layers.1.mlp"].reshard_after_forward = true;
  options.modules["layers.1"].strategy = "replicate";
  options.modules["layers.1.mlp"].strategy = "fsdp2";
  auto units = units_of(make_plan(model, kFour, options));
  EXPECT_FALSE(units.at("layers.0").reshard_after_forward);
  EXPECT_FALSE(units.at("layers.0.mlp").reshard_after_forward)
      << "a module's entry holds for what is inside";
  EXPECT_EQ(units.at("layers.1").strategy, "replicate");
  EXPECT_EQ(units.at("layers.1.mlp").strategy, "fsdp2");
  EXPECT_TRUE(units.at("layers.1.mlp").reshard_after_forward);
  EXPECT_TRUE(units.at("table").reshard_after_forward);
}

TEST(Plan, RecomputeByLayerOrName) {
  ToyModel model({.device = torch::kMeta});
  auto recomputed = [&](const std::vector<std::string>& names) {
    std::string paths;
    for (const auto& unit : make_plan(model, kFour, {.defaults = {.recompute = names}}).units) {
      if (unit.recompute) paths += unit.path + " ";
    }
    return paths;
  };
  EXPECT_EQ(recomputed({"none"}), "");
  EXPECT_EQ(recomputed({}), "");
  EXPECT_EQ(recomputed({"layer"}), "table pixels adapter layers.0 layers.1 layers.2 ");
  EXPECT_EQ(recomputed({"mlp", "adapter"}), "adapter layers.0.mlp layers.1.mlp layers.2.mlp ");
  EXPECT_EQ(recomputed({"layers.1*"}), "layers.1 layers.1.mlp ");
}

TEST(Plan, ReadsARecipe) {
  ParallelOptions options;
  read_fields({"r.yaml"},
              YAML::Load("{default: {recompute: layer, reduce_dtype: bfloat16}, "
                         "modules: {table: {strategy: replicate, recompute: [none]}}}"),
              options, "parallel");
  ToyModel model({.device = torch::kMeta});
  auto units = units_of(make_plan(model, kFour, options));
  EXPECT_EQ(units.at("table").strategy, "replicate");
  EXPECT_FALSE(units.at("table").recompute);
  EXPECT_TRUE(units.at("pixels").recompute);
  EXPECT_EQ(units.at("table").reduce_dtype, torch::kBFloat16) << "what an entry leaves out stays";
  EXPECT_THROW(
      read_fields({"r.yaml"}, YAML::Load("{default: {strategy: fsdp3}}"), options, "parallel"),
      ConfigError);
  EXPECT_THROW(read_fields({"r.yaml"}, YAML::Load("{modules: {table: {reshard: true}}}"), options,
                           "parallel"),
               ConfigError);
}

TEST(Plan, ErrorsNameTheCure) {
  ParallelOptions options;
  options.modules["tabl"].strategy = "replicate";
  EXPECT_THAT(
      plan_error(options),
      HasSubstr("parallel.modules: 'tabl' matches nothing in the model; did you mean 'table'?"));
  EXPECT_THAT(plan_error({.defaults = {.recompute = {"layers.7"}}}),
              HasSubstr("parallel.default.recompute: 'layers.7'"));
  EXPECT_THAT(plan_error({.defaults = {.recompute = {"none", "layer"}}}), HasSubstr("'none'"));
  EXPECT_THAT(plan_error({.defaults = {.param_dtype = "bf16"}}), HasSubstr("bf16"));
  EXPECT_THAT(plan_error({}, {1, 2, 2}), HasSubstr("sequence parallelism"));
  for (const char* strategy : {"fsdp2", "fsdp1", "hsdp", "ddp", "replicate"})
    EXPECT_EQ(plan_error({.defaults = {.strategy = strategy}}, {2, 2, 1}), "no ConfigError");
}

TEST(Plan, ModulesMayLayTheRanksOutDifferently) {
  ToyModel model({.device = torch::kMeta});
  ParallelOptions options;
  options.modules["table"].strategy = "replicate";
  options.modules["pixels"].strategy = "fsdp1";
  options.modules["layers.*"].mesh = ModuleMesh{.dp_replicate = 2};
  options.modules["layers.1"].mesh = ModuleMesh{.dp_replicate = 4, .dp_shard = 1};
  const auto units = units_of(make_plan(model, kFour, options));
  EXPECT_EQ(units.at("table").placement, "Replicate, Replicate");
  EXPECT_EQ(units.at("pixels").placement, "Replicate, Flat");
  EXPECT_EQ(units.at("").mesh, kFour);
  EXPECT_EQ(units.at("layers.0").mesh, (MeshShape{2, 2, 1}));
  EXPECT_EQ(units.at("layers.0.mlp").placement, "Replicate, Shard(0)");
  EXPECT_EQ(units.at("layers.1").mesh, (MeshShape{4, 1, 1}));
  EXPECT_EQ(units.at("layers.1").placement, "Replicate, Replicate");
  // pixels end to end in fp32: [5, 6] at 0, [6] at 32, [] at 48; 13 of 49 elements for rank 0.
  EXPECT_EQ(units.at("pixels").local_numel, 13);
  EXPECT_EQ(units.at("layers.0.mlp").local_numel, 3 * 12 + 6 * 6) << "rows over two ranks";
  const auto text = make_plan(model, kFour, options).describe();
  EXPECT_THAT(text, HasSubstr("2 x 2"));
  EXPECT_THAT(text, HasSubstr("Flat"));
}

TEST(Plan, MeshesThatDoNotLayOutTheRanksAreRefused) {
  ParallelOptions options;
  options.modules["layers.*"].mesh = ModuleMesh{.dp_replicate = 3};
  EXPECT_THAT(plan_error(options), HasSubstr("the mesh of 'layers.0', dp_replicate 3 x dp_shard 0, "
                                             "does not lay out the job's 4"));
  options.modules["layers.*"].mesh = ModuleMesh{.dp_replicate = 2, .dp_shard = 4};
  EXPECT_THAT(plan_error(options), HasSubstr("choose factors of 4"));
  options.modules["layers.*"].mesh = ModuleMesh{.dp_replicate = 2, .dp_shard = 2};
  EXPECT_EQ(plan_error(options), "no ConfigError");
}

/// A unit with a part that is none.
class Holder : public nn::Unit {
 public:
  class Part : public nn::Module {
   public:
    Part() { parameter("weight", toy::param({2}, {.device = torch::kMeta})); }
  };
  Holder() {
    child("part", part_);
    nn::assign_names(*this);
  }

 private:
  Part part_;
};

TEST(Plan, APatternInsideAUnitIsRefused) {
  Holder holder;
  ParallelOptions options;
  options.modules["part"].strategy = "fsdp1";
  EXPECT_THAT(config_error([&] { make_plan(holder, kFour, options); }),
              HasSubstr("'part' names a part of the unit ''"));
}

TEST(Plan, TableSharesLinesOfLikeUnits) {
  ToyModel model({.device = torch::kMeta});
  const auto text = make_plan(model, kFour, {.defaults = {.recompute = {"layer"}}}).describe();
  EXPECT_THAT(text, HasSubstr("mesh: dp_replicate 1 x dp_shard 4 x sp 1"));
  EXPECT_THAT(text, HasSubstr("(root)"));
  EXPECT_THAT(text, HasSubstr("Replicate, Shard(0)"));
  EXPECT_THAT(text, HasSubstr("layers.0.mlp"));
  const auto plain = make_plan(model, kFour, {.defaults = {.strategy = "replicate"}}).describe();
  EXPECT_THAT(plain, HasSubstr("Replicate, Replicate"));
  EXPECT_THAT(plain, Not(HasSubstr("Shard(0)")));
}

TEST(Parallelize, SetsDtypesShardsAndRecompute) {
  run_ranks(2, [](Communicator& world) {
    ToyModel model({.device = torch::kMeta});
    DeviceMesh mesh(world.shared_from_this(), {});
    ParallelOptions options = {.defaults = {.recompute = {"layer"}, .param_dtype = "bfloat16"}};
    options.modules["table"].strategy = "replicate";
    options.modules["pixels"].param_dtype = "float32";
    auto parallel = parallelize(model, mesh, options);
    EXPECT_EQ(parallel.group->size(), 2);
    for (auto& [path, parameter] : model.named_parameters()) {
      const bool pixels = path.rfind("pixels", 0) == 0, table = path.rfind("table", 0) == 0;
      EXPECT_EQ(parameter.dtype(), pixels ? torch::kFloat : torch::kBFloat16) << path;
      EXPECT_EQ(parameter.local().scalar_type(), parameter.dtype()) << path;
      EXPECT_EQ(is_sharded(parameter), !table && !parameter.shape().empty()) << path;
    }
    for (auto& [path, unit] : nn::find_modules<nn::Unit>(model)) {
      EXPECT_NE(unit->interceptor(nn::Unit::Stage::kShard), nullptr) << path;
      const bool layer = !path.empty() && path.find(".mlp") == std::string::npos;
      EXPECT_EQ(unit->interceptor(nn::Unit::Stage::kRecompute) != nullptr, layer) << path;
    }
  });
}

}  // namespace
}  // namespace veomni::parallel
