// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/clip.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "veomni/comm/local.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/parallel/fully_shard.h"

namespace veomni::parallel {
namespace {

/// A parameter whose gradient is the matching rows of `full`: sharded over the group, or whole on
/// every rank.
nn::Parameter with_gradient(const torch::Tensor& full, Communicator& group, bool shard) {
  nn::Parameter parameter(full.sizes().vec(), {.dtype = full.scalar_type()}, nn::Init::zeros());
  auto rows = full;
  if (shard) {
    const auto slice = io::shard_rows(full.size(0), group.rank(), group.size());
    parameter.set_shard(io::ShardSpec::rows(full.sizes().vec(), group.rank(), group.size()));
    rows = full.narrow(0, slice.begin, slice.length);
  }
  parameter.set_grad(rows.clone());
  return parameter;
}

TEST(GradientNorm, CountsEachElementOnce) {
  const auto a = torch::arange(35, torch::kDouble).view({7, 5}).sin(),
             b = torch::arange(9, torch::kDouble).cos();
  const auto row = torch::full({1, 3}, 2.0, torch::kDouble),
             scalar = torch::full({}, 3.0, torch::kDouble);
  double want = 0;
  for (const auto& t : {a, b, row, scalar}) want += t.square().sum().item<double>();
  for (int ranks = 1; ranks <= 4; ++ranks) {
    run_ranks(ranks, [&](Communicator& comm) {
      const std::vector<nn::Parameter> parameters = {
          with_gradient(a, comm, true), with_gradient(b, comm, false),
          with_gradient(row, comm, true), with_gradient(scalar, comm, false),
          nn::Parameter({4}, {}, nn::Init::zeros())};
      EXPECT_NEAR(gradient_norm(parameters, comm), std::sqrt(want), 1e-12) << ranks;
    });
  }
}

TEST(GradientNorm, CountsPartsOnceHoweverTheyAreSpread) {
  const auto rows = torch::arange(35, torch::kDouble).view({7, 5}).sin(),
             flat = torch::arange(21, torch::kDouble).view({3, 7}).cos(),
             whole = torch::arange(9, torch::kDouble);
  double want = 0;
  for (const auto& t : {rows, flat, whole}) want += t.square().sum().item<double>();
  run_ranks(4, [&](Communicator& comm) {
    // Rows over two ranks, twice; a flat range over all four.
    nn::Parameter copied({7, 5}, {.dtype = torch::kDouble}, nn::Init::zeros());
    const auto slice = io::shard_rows(7, comm.rank() % 2, 2);
    copied.set_shard(io::ShardSpec::rows({7, 5}, comm.rank() % 2, 2), comm.rank() / 2);
    copied.set_grad(rows.narrow(0, slice.begin, slice.length).clone());
    nn::Parameter ranged({3, 7}, {.dtype = torch::kDouble}, nn::Init::zeros());
    const auto range = io::shard_rows(21, comm.rank(), 4);
    ranged.set_shard(io::ShardSpec::flat_range({3, 7}, range));
    ranged.set_grad(flat.view({-1}).narrow(0, range.begin, range.length).clone());
    EXPECT_NEAR(gradient_norm({copied, ranged, with_gradient(whole, comm, false)}, comm),
                std::sqrt(want), 1e-12);
    EXPECT_TRUE(torch::equal(full_gradient(copied, comm), rows));
    EXPECT_TRUE(torch::equal(full_gradient(ranged, comm), flat));
  });
}

TEST(GradientNorm, IsPreciseAndIndependentOfThreads) {
  auto comm = make_single_communicator();
  // Past 2^24 summands of equal size an fp32 accumulator stands still.
  const auto many = with_gradient(torch::full({(1 << 24) + (1 << 22)}, 0.5f), *comm, true);
  EXPECT_DOUBLE_EQ(gradient_norm({many}, *comm), std::sqrt(0.25 * ((1 << 24) + (1 << 22))));
  const auto waves = with_gradient(torch::arange(300001, torch::kFloat).sin(), *comm, true);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = gradient_norm({waves}, *comm);
  at::set_num_threads(2);
  EXPECT_EQ(gradient_norm({waves}, *comm), one);
  at::set_num_threads(threads);
}

TEST(GradientNorm, ShowsNan) {
  run_ranks(2, [](Communicator& comm) {
    auto full = torch::ones({4, 2});
    full[3][1] = NAN;  // on rank 1 only
    EXPECT_TRUE(std::isnan(gradient_norm({with_gradient(full, comm, true)}, comm)));
  });
}

TEST(ClipCoefficient, ScalesDownOnly) {
  EXPECT_EQ(clip_coefficient(0.5, 1.0), 1);
  EXPECT_EQ(clip_coefficient(0, 1.0), 1);
  EXPECT_DOUBLE_EQ(clip_coefficient(4, 1.0), 1 / (4 + 1e-6));
  EXPECT_EQ(clip_coefficient(1e9, 0), 1) << "0: no clipping";
  EXPECT_TRUE(std::isnan(clip_coefficient(NAN, 1.0)));
  EXPECT_EQ(clip_coefficient(INFINITY, 1.0), 0);
}

}  // namespace
}  // namespace veomni::parallel
