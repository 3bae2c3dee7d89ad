// SPDX-License-Identifier: Apache-2.0
/// Element types of files and of tensors.
#pragma once

#include <torch/types.h>

#include <span>
#include <string>

#include "veomni/io/dtype.h"

namespace veomni::nn {

torch::ScalarType torch_dtype(io::DType dtype);
/// @throws veomni::Error for a type no file of ours holds
io::DType io_dtype(torch::ScalarType dtype);
/// "float32", "bfloat16", "float64", "float16": a recipe's words. @throws ConfigError listing them
torch::ScalarType parse_dtype(const std::string& name);
/// The reverse.
std::string dtype_word(torch::ScalarType dtype);

/// The bytes of a contiguous CPU tensor; valid while it lives.
std::span<const std::byte> tensor_bytes(const torch::Tensor& tensor);

}  // namespace veomni::nn
