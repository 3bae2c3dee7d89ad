// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/materialize.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "veomni/base/error.h"
#include "veomni/io/safetensors.h"
#include "veomni/nn/dtype.h"
#include "veomni/nn/layers.h"

namespace veomni::nn {
namespace {

constexpr int64_t kWidth = 5;

class Net : public Module {
 public:
  explicit Net(const ParamOptions& options)
      : mlp_(kWidth, 7, Init::normal(0.5), options), norm_(kWidth, 1e-6, options) {
    child("mlp", mlp_);
    child("norm", norm_);
    assign_names(*this);
  }

 private:
  GatedMlp mlp_;
  RmsNorm norm_;
};

const ParamOptions kMeta{torch::kMeta, torch::kFloat};

// Makes rank `rank` of `world` own its rows only, as a sharding strategy does.
void shard(Module& net, int rank, int world) {
  for (auto& [name, p] : net.named_parameters())
    p.set_shard(io::ShardSpec::rows(p.shape(), rank, world));
}

std::map<std::string, torch::Tensor> locals(Module& net) {
  std::map<std::string, torch::Tensor> out;
  for (auto& [name, p] : net.named_parameters()) out[name] = p.local().clone();
  return out;
}

TEST(Materialize, InitialisationIsTheSameInEveryLayout) {
  Net whole(kMeta);
  materialize(whole, torch::kCPU, Masters::kTrainable);
  initialize(whole, 3);
  const auto expected = locals(whole);
  EXPECT_GT(expected.at("mlp.down.weight").abs().sum().item<float>(), 0);
  for (int world : {2, 3, 4}) {
    std::map<std::string, std::vector<torch::Tensor>> pieces;
    for (int rank = 0; rank < world; ++rank) {
      Net net(kMeta);
      shard(net, rank, world);
      materialize(net, torch::kCPU, Masters::kTrainable);
      initialize(net, 3);
      for (auto& [name, rows] : locals(net)) pieces[name].push_back(rows);
    }
    for (auto& [name, rows] : pieces)
      EXPECT_TRUE(torch::equal(torch::cat(rows), expected.at(name))) << name;
  }
}

TEST(Materialize, AShardedValueHasItsShapeAndNoStorage) {
  Net net(kMeta);
  shard(net, 1, 2);
  materialize(net, torch::kCPU, Masters::kTrainable);
  for (auto& [name, p] : net.named_parameters()) {
    EXPECT_EQ(p.value().sizes(), p.shape());
    EXPECT_EQ(p.value().storage().nbytes(), 0u);
    EXPECT_EQ(p.local().size(0), p.shard().local_shape()[0]);
  }
}

TEST(Materialize, MastersAreWideAndAliasEqualDtypes) {
  Net narrow({torch::kMeta, torch::kBFloat16}), wide(kMeta);
  materialize(narrow, torch::kCPU, Masters::kTrainable);
  materialize(wide, torch::kCPU, Masters::kTrainable);
  auto p = narrow.named_parameters()[0].second, q = wide.named_parameters()[0].second;
  EXPECT_EQ(p.master().scalar_type(), torch::kFloat);
  EXPECT_TRUE(q.master().is_alias_of(q.value()));
  materialize(narrow, torch::kCPU, Masters::kNone);
  EXPECT_FALSE(p.master().defined());
}

class LoadWeights : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "load_weights.safetensors";
    tensors_ = {{"gate", torch::randn({7, kWidth}, torch::kDouble)},
                {"up", torch::randn({7, kWidth}, torch::kDouble)},
                {"down", torch::randn({kWidth, 7}, torch::kDouble)},
                {"norm", torch::randn({kWidth}, torch::kDouble)}};
    for (auto& [name, t] : tensors_) t = t.to(torch::kFloat);
  }
  io::SafetensorsIndex write() {
    std::vector<io::TensorEntry> entries;
    for (auto& [name, t] : tensors_)
      entries.push_back({name, io::DType::F32, t.sizes().vec(), tensor_bytes(t)});
    io::write_safetensors(path_, entries);
    return io::SafetensorsIndex::open_file(path_);
  }
  static io::RuleSet rules() {
    return io::RuleSet(
        {{.param = "mlp.gate_up.weight", .files = {"gate", "up"}, .combine = io::Combine::kConcat},
         {.param = "mlp.down.weight", .files = {"down"}},
         {.param = "norm.weight", .files = {"norm"}}});
  }
  std::string path_;
  std::map<std::string, torch::Tensor> tensors_;
};

TEST_F(LoadWeights, StraightIntoShards) {
  const auto index = write();
  for (int world : {1, 2, 4}) {
    std::vector<torch::Tensor> gate_up;
    for (int rank = 0; rank < world; ++rank) {
      Net net({torch::kMeta, torch::kBFloat16});
      shard(net, rank, world);
      materialize(net, torch::kCPU, Masters::kTrainable);
      load_weights(net, rules(), index);
      gate_up.push_back(net.named_parameters()[0].second.master().clone());
      EXPECT_TRUE(torch::equal(net.named_parameters()[0].second.local(),
                               gate_up.back().to(torch::kBFloat16)));
    }
    EXPECT_TRUE(torch::equal(torch::cat(gate_up), torch::cat({tensors_["gate"], tensors_["up"]})))
        << world;
  }
}

TEST_F(LoadWeights, AMissingTensorIsNamed) {
  tensors_.erase("down");
  const auto index = write();
  Net net(kMeta);
  materialize(net, torch::kCPU, Masters::kNone);
  try {
    load_weights(net, rules(), index);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("down"));
  }
}

TEST_F(LoadWeights, ALeftOverTensorIsNamed) {
  tensors_["surplus"] = torch::zeros({2});
  const auto index = write();
  Net net(kMeta);
  materialize(net, torch::kCPU, Masters::kNone);
  EXPECT_THROW(load_weights(net, rules(), index), Error);
}

TEST(Parameter, CountsWrites) {
  Parameter p({4, 2}, {}, Init::zeros());
  EXPECT_EQ(p.generation(), 0u);
  p.assign_local(torch::ones({4, 2}));
  EXPECT_EQ(p.generation(), 1u);
  p.written();
  EXPECT_EQ(p.generation(), 2u);
  const Parameter same = p;  // a handle
  p.replace_value(torch::zeros({4, 2}));
  EXPECT_EQ(same.generation(), 3u);
}

}  // namespace
}  // namespace veomni::nn
