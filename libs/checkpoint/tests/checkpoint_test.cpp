// SPDX-License-Identifier: Apache-2.0
#include "veomni/checkpoint/checkpoint.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "veomni/base/error.h"
#include "veomni/checkpoint/hf_export.h"
#include "veomni/checkpoint/manifest.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/io/safetensors.h"
#include "veomni/nn/dtype.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/materialize.h"

namespace veomni::checkpoint {
namespace {

namespace fs = std::filesystem;

const nn::ParamOptions kMeta{torch::kMeta, torch::kBFloat16};

class Net : public nn::Module {
 public:
  Net() : mlp_(5, 7, nn::Init::normal(0.5), kMeta), norm_(3, 1e-6, kMeta) {
    child("mlp", mlp_);
    child("norm", norm_);
    nn::assign_names(*this);
  }

 private:
  nn::GatedMlp mlp_;
  nn::RmsNorm norm_;  // 3 rows: fewer than 4 ranks
};

// Rows of every parameter; one range of all parameters end to end; rows over half the ranks, twice.
enum class Layout { kRows, kFlat, kReplicas };

void shard(Net& net, Communicator& comm, Layout layout) {
  const int copies = layout == Layout::kReplicas && comm.size() % 2 == 0 ? 2 : 1;
  const int ranks = comm.size() / copies, rank = comm.rank() % ranks;
  int64_t numel = 0, begin = 0;
  for (auto& [name, p] : net.named_parameters()) numel += p.numel();
  const auto mine = io::shard_rows(numel, rank, ranks);
  for (auto& [name, p] : net.named_parameters()) {
    const int64_t first = std::clamp(mine.begin - begin, int64_t{0}, p.numel()),
                  last = std::clamp(mine.begin + mine.length - begin, int64_t{0}, p.numel());
    begin += p.numel();
    p.set_shard(layout == Layout::kFlat
                    ? io::ShardSpec::flat_range(p.shape(), {first, last - first})
                    : io::ShardSpec::rows(p.shape(), rank, ranks),
                comm.rank() / ranks);
  }
}

// One rank's part of a model after some AdamW steps.
struct Job {
  Net net;
  std::unique_ptr<optim::Optimizer> optimizer;

  explicit Job(Communicator& comm, uint64_t seed, Layout layout = Layout::kRows) {
    std::vector<optim::OptimParam> params;
    if (comm.size() > 1) shard(net, comm, layout);
    nn::materialize(net, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(net, seed);
    for (auto& [name, p] : net.named_parameters())
      params.push_back({p.name(), p.master(), p.local(), 0.1, 0});
    optimizer = optim::make_optimizer({}, params);
  }
  void step(double gradient) {
    std::vector<torch::Tensor> grads;
    for (const auto& param : optimizer->params())
      grads.push_back(torch::full_like(param.master, gradient));
    optimizer->step(grads, 1, 1);
  }
  TrainingState state(nlohmann::json extra = {}) {
    return {&net, optimizer.get(), std::move(extra)};
  }

  // Everything that must survive, rows of this rank.
  std::vector<torch::Tensor> all() {
    std::vector<torch::Tensor> out;
    for (auto& [name, p] : net.named_parameters()) {
      out.push_back(p.master().clone());
      out.push_back(p.local().clone());
    }
    for (auto& [kind, tensors] : optimizer->state()) {
      for (auto& t : tensors) out.push_back(t.clone());
    }
    return out;
  }
};

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "checkpoint_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
  }
  void save_on(int ranks, Layout layout = Layout::kRows) {
    run_ranks(ranks, [&](Communicator& comm) {
      Job job(comm, 1, layout);
      job.step(0.3);
      job.step(-0.1);
      save(root_, 7, job.state({{"loader", {1, 2}}}), comm);
    });
  }
  std::string root_;
};

TEST_F(CheckpointTest, LoadsBitEqualIntoEveryOtherLayout) {
  const std::vector<std::pair<int, Layout>> layouts = {
      {1, Layout::kRows}, {3, Layout::kRows}, {4, Layout::kRows},     {2, Layout::kFlat},
      {3, Layout::kFlat}, {4, Layout::kFlat}, {2, Layout::kReplicas}, {4, Layout::kReplicas},
  };
  for (const auto& [writers, written] : layouts) {
    save_on(writers, written);
    for (const auto& [readers, layout] : layouts) {
      run_ranks(readers, [&, layout = layout, writers = writers](Communicator& comm) {
        Job want(comm, 1, layout), got(comm, 99, layout);
        want.step(0.3);
        want.step(-0.1);
        const auto extra = load(root_ + "/step_00000007", got.state(), comm);
        EXPECT_EQ(extra["step"], 7);
        EXPECT_EQ(extra["loader"], nlohmann::json({1, 2}));
        EXPECT_EQ(got.optimizer->steps(), 2);
        const auto a = got.all(), b = want.all();
        for (size_t i = 0; i < a.size(); ++i)
          EXPECT_TRUE(torch::equal(a[i], b[i])) << writers << "->" << comm.size() << " " << i;
      });
    }
  }
}

TEST_F(CheckpointTest, WritesEveryElementOnce) {
  const auto elements = [&](int ranks, Layout layout) {
    save_on(ranks, layout);
    std::map<std::string, int64_t> found;
    for (const auto& entry : fs::directory_iterator(root_ + "/step_00000007")) {
      if (entry.path().extension() != ".safetensors") continue;
      const io::SafetensorsFile file(entry.path().string());
      for (const auto& name : file.names())
        found[name] += io::num_elements(file.tensor(name).shape);
    }
    return found;
  };
  const auto whole = elements(1, Layout::kRows);
  for (Layout layout : {Layout::kRows, Layout::kFlat, Layout::kReplicas})
    EXPECT_EQ(elements(4, layout), whole) << static_cast<int>(layout);
  EXPECT_TRUE(fs::exists(root_ + "/step_00000007/rank_00000.safetensors"));
  elements(4, Layout::kFlat);
  EXPECT_TRUE(fs::exists(root_ + "/step_00000007/rank_00001_part_1.safetensors"))
      << "a range that ends in the middle of a row";
}

TEST_F(CheckpointTest, EveryDamagedByteIsNoticed) {
  save_on(2);
  const std::string directory = root_ + "/step_00000007";
  EXPECT_NO_THROW(verify(directory));
  for (const auto& entry : fs::directory_iterator(directory)) {
    const auto size = fs::file_size(entry.path());
    for (uintmax_t at : {uintmax_t{0}, size / 2, size - 1}) {
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(at);
      const char before = static_cast<char>(file.get());
      file.seekp(at);
      file.put(static_cast<char>(before ^ 0x10));
      file.close();
      EXPECT_THROW(verify(directory), Error) << entry.path() << " byte " << at;
      std::fstream back(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      back.seekp(at);
      back.put(before);
    }
  }
  EXPECT_NO_THROW(verify(directory));
}

TEST_F(CheckpointTest, NewestPassesOverIncompleteOnes) {
  save_on(1);
  fs::create_directories(root_ + "/step_00000008");
  fs::copy(root_ + "/step_00000007", root_ + "/step_00000009");
  fs::resize_file(root_ + "/step_00000009/rank_00000.safetensors", 100);
  fs::create_directories(root_ + "/step_00000010.tmp");
  EXPECT_EQ(newest(root_), root_ + "/step_00000007");
  EXPECT_EQ(newest(root_ + "/nowhere"), std::nullopt);
}

TEST_F(CheckpointTest, PruneKeepsTheNewest) {
  save_on(1);
  for (const char* name : {"/step_00000005", "/step_00000006", "/step_00000003.tmp"})
    fs::create_directories(root_ + name);
  prune(root_, 2);
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(root_)) left.push_back(entry.path().filename());
  EXPECT_THAT(left, testing::UnorderedElementsAre("step_00000006", "step_00000007"));
}

TEST_F(CheckpointTest, ARankThatCannotWriteFailsAllAndLeavesTheOldOne) {
  save_on(2);
  // A file where the root directory should be: not even the superuser can write below it.
  const std::string blocked = root_ + "/file";
  std::ofstream(blocked) << "not a directory";
  run_ranks(2, [&](Communicator& comm) {
    Job job(comm, 1);
    EXPECT_THROW(save(blocked, 8, job.state(), comm), Error);
  });
  EXPECT_EQ(newest(root_), root_ + "/step_00000007");
}

TEST_F(CheckpointTest, AShapeThatDiffersIsNamed) {
  save_on(1);
  run_ranks(1, [&](Communicator& comm) {
    struct Other : nn::Module {
      nn::RmsNorm norm{4, 1e-6, {torch::kMeta, torch::kBFloat16}};
      Other() {
        child("norm", norm);
        nn::assign_names(*this);
      }
    } other;
    nn::materialize(other, torch::kCPU, nn::Masters::kNone);
    try {
      load(root_ + "/step_00000007", {&other, nullptr, {}}, comm);
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("norm.weight"));
    }
  });
}

TEST_F(CheckpointTest, ExportWritesTheFilesNamesAndDtype) {
  const io::RuleSet rules(
      {{.param = "mlp.gate_up.weight", .files = {"gate", "up"}, .combine = io::Combine::kConcat},
       {.param = "mlp.down.weight", .files = {"down"}},
       {.param = "norm.weight", .files = {"norm"}}});
  fs::create_directories(root_);
  std::ofstream(root_ + "/tokenizer.json") << "{}";
  run_ranks(1, [&](Communicator& comm) {
    Job job(comm, 4);
    const HfFolder folder{"",
                          {{"model_type", "net"}, {"torch_dtype", "float16"}},
                          {{&job.net, rules}},
                          {},
                          {root_ + "/tokenizer.json"}};
    export_hf(
        root_ + "/hf", {folder}, torch::kBFloat16,
        [](const nn::Parameter& p, Communicator&) { return p.master(); }, comm);
    const io::SafetensorsFile file(root_ + "/hf/model.safetensors");
    EXPECT_THAT(file.names(), testing::UnorderedElementsAre("gate", "up", "down", "norm"));
    const auto up = file.tensor("up");
    EXPECT_EQ(up.dtype, io::DType::BF16);
    const auto local = job.net.named_parameters()[0].second.local().narrow(0, 7, 7).contiguous();
    EXPECT_EQ(0, std::memcmp(up.bytes.data(), local.data_ptr(), up.bytes.size()));
  });
  EXPECT_TRUE(fs::exists(root_ + "/hf/tokenizer.json"));
  std::ifstream config(root_ + "/hf/config.json");
  EXPECT_EQ(nlohmann::json::parse(config),
            (nlohmann::json{{"model_type", "net"}, {"dtype", "bfloat16"}}));
}

}  // namespace
}  // namespace veomni::checkpoint
