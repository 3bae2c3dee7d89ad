// SPDX-License-Identifier: Apache-2.0
/// `veomni forward`: one forward (and backward) of a model directory on tensors from a file. The parity tool.
#pragma once

#include <string>

#include "veomni/train/recipe.h"

namespace veomni::train {

struct ForwardOptions {
  std::string model_dir, input_file, output_file;
  bool grads = false;
  std::string dtype = "float32";
  MeshOptions mesh;
  CommOptions comm;
  parallel::ParallelOptions parallel;
  OpsOptions ops;
  MemoryOptions memory;
};
/// What `--section.key=value` may set.
template <typename Visitor> void visit_fields(Visitor& v, ForwardOptions& o) {
  v("mesh", o.mesh, "how the ranks are laid out");
  v("comm", o.comm, "how they talk");
  v("parallel", o.parallel, "how the model is spread over them");
  v("ops", o.ops, "which kernels compute");
  v("memory", o.memory, "where tensors lie");
}

/// Input tensors, named as Hugging Face's forward arguments:
///   input_ids       [B, S] int64
///   attention_mask  [B, S], 0 where there is no token (optional: all are)
///   position_ids    [B, S] int64 (optional: 0 … S-1)
///   labels          [B, S] int64, -100 where not counted (optional)
///   cotangent       [B, S, V] (needed for grads without labels): loss = sum(logits * cotangent)
/// Output tensors: logits [B, S, V] in the run's dtype, 0 where there is no token; loss (0-d) with labels: the mean
/// over counted targets of all rows; with grads one grad.<name> per file tensor of the model.
///
/// Rows of B are dealt to the data-parallel ranks in turn; rank 0 writes the gathered result.
/// @throws ConfigError for inputs that do not fit, naming tensor, shape and cure
void run_forward(const ForwardOptions& options);

}  // namespace veomni::train
