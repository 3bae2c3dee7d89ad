// SPDX-License-Identifier: Apache-2.0
#include "veomni/optim/optimizer.h"

#include <gmock/gmock.h>

#include <cmath>

#include "veomni/base/error.h"

namespace veomni::optim {
namespace {

OptimParam param(std::vector<double> values, torch::ScalarType compute = torch::kDouble) {
  auto master = torch::tensor(values, torch::kDouble);
  if (compute != torch::kDouble) master = master.to(torch::kFloat);
  auto copy = compute == master.scalar_type() ? master : master.to(compute);
  return {"w", master, copy, 0.1, 0.01};
}

// Algorithm 2 of Loshchilov & Hutter (2019) for one number, written as the paper does.
double adamw_reference(double w, const std::vector<double>& grads, double lr, double decay) {
  double m = 0, v = 0;
  for (size_t t = 1; t <= grads.size(); ++t) {
    m = 0.9 * m + 0.1 * grads[t - 1];
    v = 0.95 * v + 0.05 * grads[t - 1] * grads[t - 1];
    const double m_hat = m / (1 - std::pow(0.9, t)), v_hat = v / (1 - std::pow(0.95, t));
    w -= lr * (m_hat / (std::sqrt(v_hat) + 1e-8) + decay * w);
  }
  return w;
}

TEST(AdamW, FollowsThePaper) {
  auto p = param({1.0, -2.0, 0.5});
  auto optimizer = make_optimizer({}, {p});
  for (double g : {0.3, -0.2, 0.05})
    optimizer->step({torch::full({3}, g, torch::kDouble)}, 1.0, 1.0);
  for (int i = 0; i < 3; ++i) {
    const double start = std::vector<double>{1.0, -2.0, 0.5}[i];
    EXPECT_NEAR(p.master[i].item<double>(), adamw_reference(start, {0.3, -0.2, 0.05}, 0.1, 0.01),
                1e-14);
  }
  EXPECT_EQ(optimizer->steps(), 3);
}

TEST(AdamW, GradScaleIsClipping) {
  auto a = param({1.0}), b = param({1.0});
  make_optimizer({}, {a})->step({torch::full({1}, 4.0, torch::kDouble)}, 1.0, 0.25);
  make_optimizer({}, {b})->step({torch::full({1}, 1.0, torch::kDouble)}, 1.0, 1.0);
  EXPECT_EQ(a.master.item<double>(), b.master.item<double>());
}

TEST(AdamW, WritesTheComputeCopyInTheSamePass) {
  auto p = param({1.0, -2.0}, torch::kBFloat16);
  make_optimizer({}, {p})->step({torch::full({2}, 0.3f)}, 1.0, 1.0);
  EXPECT_TRUE(torch::equal(p.compute, p.master.to(torch::kBFloat16)));
  EXPECT_NE(p.master[0].item<float>(), 1.0f);
}

TEST(AdamW, NanReachesTheComputeCopy) {
  auto p = param({1.0}, torch::kBFloat16);
  make_optimizer({}, {p})->step({torch::full({1}, NAN)}, 1.0, 1.0);
  EXPECT_TRUE(std::isnan(p.compute.to(torch::kFloat).item<float>()));
}

TEST(AdamW, LeavesAParameterWithoutGradientAlone) {
  auto a = param({1.0}), b = param({2.0});
  make_optimizer({}, {a, b})->step({torch::Tensor(), torch::ones({1}, torch::kDouble)}, 1.0, 1.0);
  EXPECT_EQ(a.master.item<double>(), 1.0);
  EXPECT_NE(b.master.item<double>(), 2.0);
}

TEST(AdamW, RefusesAGradientOfAnotherShape) {
  auto optimizer = make_optimizer({}, {param({1.0, 2.0})});
  EXPECT_THROW(optimizer->step({torch::ones({3}, torch::kDouble)}, 1.0, 1.0), Error);
}

TEST(Sgd, MomentumIsPyTorchs) {
  auto p = param({1.0});
  p.weight_decay = 0;
  OptimOptions options;
  options.name = "sgd";
  options.momentum = 0.5;
  auto optimizer = make_optimizer(options, {p});
  optimizer->step({torch::full({1}, 1.0, torch::kDouble)}, 1.0, 1.0);  // buffer 1
  optimizer->step({torch::full({1}, 2.0, torch::kDouble)}, 1.0, 1.0);  // buffer 2.5
  EXPECT_NEAR(p.master.item<double>(), 1.0 - 0.1 * 1.0 - 0.1 * 2.5, 1e-15);
}

TEST(Schedule, WarmsUpThenFalls) {
  OptimOptions options;
  options.warmup_steps = 10;
  options.min_lr_ratio = 0.1;
  EXPECT_DOUBLE_EQ(lr_factor(options, 0, 110), 0.1);
  EXPECT_DOUBLE_EQ(lr_factor(options, 9, 110), 1.0);
  EXPECT_DOUBLE_EQ(lr_factor(options, 10, 110), 1.0);
  EXPECT_NEAR(lr_factor(options, 109, 110), 0.1, 1e-12);
  options.schedule = "linear";
  EXPECT_NEAR(lr_factor(options, 109, 110), 0.1, 1e-12);
  EXPECT_NEAR(lr_factor(options, 10 + 99 / 3, 110), 1 - 0.9 / 3, 1e-12);
  options.schedule = "constant";
  EXPECT_DOUBLE_EQ(lr_factor(options, 109, 110), 1.0);
}

TEST(Groups, TheLastMatchWins) {
  OptimOptions options;
  options.lr = 1.0;
  options.weight_decay = 0.5;
  options.groups = {{"a.*", 2.0, std::nullopt}, {"a.b.*", 3.0, 0.25}};
  OptimParam p{"a.b.w", {}, {}};
  apply_groups(options, false, p);
  EXPECT_EQ(p.lr, 3.0);
  EXPECT_EQ(p.weight_decay, 0.25);
  p.name = "a.c";
  apply_groups(options, true, p);
  EXPECT_EQ(p.lr, 2.0);
  EXPECT_EQ(p.weight_decay, 0.0) << "norms and biases are not decayed by default";
}

TEST(Groups, APatternThatMatchesNothingIsTheUsersMistake) {
  OptimOptions options;
  options.groups = {{"foundation.layer.*", 2.0, std::nullopt}};
  try {
    check_options(options, {"foundation.layers.0.w"});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("foundation.layer.*"));
  }
}

}  // namespace
}  // namespace veomni::optim
