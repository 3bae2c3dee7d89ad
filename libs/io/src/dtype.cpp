// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/dtype.h"

#include <array>

namespace veomni::io {

namespace {
struct Row {
  const char* name;
  int64_t bytes;
};
// In the enum's order.
constexpr std::array<Row, 10> kRows = {{{"F64", 8},
                                        {"F32", 4},
                                        {"BF16", 2},
                                        {"F16", 2},
                                        {"I64", 8},
                                        {"I32", 4},
                                        {"I16", 2},
                                        {"I8", 1},
                                        {"U8", 1},
                                        {"BOOL", 1}}};
static_assert(static_cast<size_t>(DType::BOOL) + 1 == kRows.size());
}  // namespace

int64_t item_size(DType dtype) { return kRows[static_cast<size_t>(dtype)].bytes; }

const char* dtype_name(DType dtype) { return kRows[static_cast<size_t>(dtype)].name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (name == kRows[i].name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

const std::string& dtype_names() {
  static const std::string names = [] {
    std::string text;
    for (const Row& row : kRows) text += (text.empty() ? "" : ", ") + std::string(row.name);
    return text;
  }();
  return names;
}

}  // namespace veomni::io
