// SPDX-License-Identifier: Apache-2.0
/// Moving rows: gather, replace, add. Index tensors are int64 or int32 on the CPU (on meta: CPU or
/// meta).
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// out[r] = x[index[r]]. x [T, ...], index [R] -> [R, ...]. Indices may repeat.
/// Gradient: every row's contributions are summed in max(float32, dtype), in index order, and
/// rounded once. R == 0 is legal: the result is empty and the gradient zero.
/// @throws veomni::Error naming an index outside [0, T).
torch::Tensor gather_rows(torch::Tensor x_TD, torch::Tensor index_R);

/// x with row token[r] replaced by rows[r]: how encoder features take the places of their
/// placeholder tokens. Gradient: zero for the replaced rows of x, and their gradient to `rows`. R
/// == 0 keeps both in the graph.
/// @throws veomni::Error naming a token outside [0, T) or named twice.
torch::Tensor put_rows(torch::Tensor x_TD, torch::Tensor token_R, torch::Tensor rows_RD);

/// x with rows[r] added to row token[r]; tokens may repeat. Sums in max(float32, dtype), rounded
/// once. R == 0 keeps both in the graph. @throws veomni::Error naming a token outside [0, T).
torch::Tensor add_rows(torch::Tensor x_TD, torch::Tensor token_R, torch::Tensor rows_RD);

}  // namespace veomni::ops
