// SPDX-License-Identifier: Apache-2.0
/// The ways to spread a model, as rows.
#pragma once

#include <vector>

#include "toy_run.h"

namespace veomni::parallel::toy {

struct Strategy {
  const char* name;
  const char* word;
  int replicas;  ///< 0: as many as ranks
};
inline const std::vector<Strategy> kStrategies = {
    {"fsdp2", "fsdp2", 1},        {"fsdp1", "fsdp1", 1},    {"hsdp", "hsdp", 2},
    {"hsdp_flat", "fsdp1", 2},    {"replicas", "fsdp2", 0}, {"ddp", "ddp", 2},
    {"replicate", "replicate", 1}};

/// The case under a strategy, on a mesh of its ranks: an odd number has no two replicas.
inline Case spread_by(const Strategy& strategy, Case c) {
  c.strategy = strategy.word;
  const int replicas = strategy.replicas ? strategy.replicas : c.ranks;
  c.dp_replicate = c.ranks % replicas == 0 ? replicas : 1;
  c.more.defaults.bucket_mib = 512.0 / (1 << 20);  // several buckets of this small model
  return c;
}

}  // namespace veomni::parallel::toy
