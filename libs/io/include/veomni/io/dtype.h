// SPDX-License-Identifier: Apache-2.0
/// Element types of tensors in files. Torch-free; `nn` maps them to torch's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace veomni::io {

/// Names are safetensors'. Types we cannot compute with (F8_E4M3, U64, C64, ...) are not read.
enum class DType : uint8_t { F64, F32, BF16, F16, I64, I32, I16, I8, U8, BOOL };

/// Bytes of one element.
int64_t item_size(DType dtype);

/// "BF16": the name in a safetensors header.
const char* dtype_name(DType dtype);

/// The reverse; nothing for a name that is not one of ours.
std::optional<DType> dtype_from_name(std::string_view name);

/// "F64, F32, ...": for error messages.
const std::string& dtype_names();

/// "[2, 3]": how error messages print a shape.
template <typename Shape> std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const auto dim : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(dim);
  }
  return text + "]";
}

}  // namespace veomni::io
