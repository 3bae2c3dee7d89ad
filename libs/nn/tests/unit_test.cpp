// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/unit.h"

#include <gmock/gmock.h>

#include "veomni/base/error.h"
#include "veomni/nn/layers.h"

namespace veomni::nn {
namespace {

class Inner : public Unit {
 public:
  Inner() : linear_(4, 4, true, Init::normal(1), {}) { child("linear", linear_); }
  torch::Tensor forward(const torch::Tensor& x) {
    return run(x, [](const torch::Tensor& x) { return x + 1; });
  }

 private:
  Linear linear_;
};

class Outer : public Unit {
 public:
  Outer() : norm_(4, 1e-6, {}) {
    child("inner", inner_);
    child("norm", norm_);
  }
  Inner inner_;

 private:
  RmsNorm norm_;
};

// Notes when it runs, before and after what it wraps.
class Note : public Unit::Interceptor {
 public:
  Note(std::string name, std::vector<std::string>& log) : name_(std::move(name)), log_(log) {}
  Unit::Tensors call(Unit&, Unit::Tensors inputs, const Unit::Body& next) override {
    log_.push_back(name_ + " in");
    auto out = next(inputs);
    log_.push_back(name_ + " out");
    return out;
  }

 private:
  std::string name_;
  std::vector<std::string>& log_;
};

TEST(Unit, InterceptorsNestInStageOrderWhateverTheOrderOfAttaching) {
  Inner unit;
  std::vector<std::string> log;
  unit.intercept(Unit::Stage::kRecompute, std::make_shared<Note>("recompute", log));
  unit.intercept(Unit::Stage::kProfile, std::make_shared<Note>("profile", log));
  unit.intercept(Unit::Stage::kShard, std::make_shared<Note>("shard", log));
  EXPECT_TRUE(torch::equal(unit.forward(torch::zeros({2})), torch::ones({2})));
  EXPECT_THAT(log, testing::ElementsAre("profile in", "shard in", "recompute in", "recompute out",
                                        "shard out", "profile out"));
}

TEST(Unit, AStageHoldsOneInterceptor) {
  Inner unit;
  std::vector<std::string> log;
  unit.intercept(Unit::Stage::kShard, std::make_shared<Note>("a", log));
  EXPECT_THROW(unit.intercept(Unit::Stage::kShard, std::make_shared<Note>("b", log)), Error);
  unit.intercept(Unit::Stage::kShard, nullptr);
  unit.intercept(Unit::Stage::kShard, std::make_shared<Note>("b", log));
}

// The rest of the chain must outlive the call: recompute runs it again in backward.
TEST(Unit, NextMayRunLater) {
  struct Keep : Unit::Interceptor {
    Unit::Body kept;
    Unit::Tensors call(Unit&, Unit::Tensors inputs, const Unit::Body& next) override {
      kept = next;
      return next(inputs);
    }
  };
  Inner unit;
  auto keep = std::make_shared<Keep>();
  unit.intercept(Unit::Stage::kShard, keep);
  unit.forward(torch::zeros({1}));
  EXPECT_EQ(keep->kept({torch::ones({1})})[0].item<float>(), 2.0f);
}

TEST(Unit, AParameterBelongsToItsNearestUnit) {
  Outer outer;
  assign_names(outer, "outer");
  std::vector<std::string> names;
  for (const auto& p : outer.unit_parameters()) names.push_back(p.name());
  EXPECT_THAT(names, testing::ElementsAre("outer.norm.weight"));
  EXPECT_EQ(outer.inner_.unit_parameters().size(), 2u);
  EXPECT_EQ(outer.inner_.name(), "outer.inner");
}

}  // namespace
}  // namespace veomni::nn
