// SPDX-License-Identifier: Apache-2.0
/// Any bytes as a safetensors file: an Error, or a header whose promises hold.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/io/safetensors.h"

namespace {

using veomni::io::SafetensorsLayout;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_promises(const SafetensorsLayout& layout, uint64_t file_bytes) {
  require(layout.data_begin <= file_bytes);
  uint64_t covered = 0;
  for (const auto& tensor : layout.header.tensors) {
    require(tensor.begin == covered && tensor.end >= tensor.begin);
    const veomni::io::TensorDecl decl{tensor.name, tensor.dtype, tensor.shape};
    require(decl.num_bytes() == tensor.end - tensor.begin);
    require(layout.header.find(tensor.name) == &tensor);
    covered = tensor.end;
  }
  require(covered == file_bytes - layout.data_begin);
}

void parse(std::span<const std::byte> file) {
  try {
    check_promises(veomni::io::parse_safetensors(file, "fuzz"), file.size());
  } catch (const veomni::Error&) {
  }
}

/// The largest number in the text that a small file may hold bytes for: its likely size of data.
uint64_t likely_data_bytes(std::span<const uint8_t> text) {
  constexpr uint64_t kLargest = 1 << 16;
  uint64_t largest = 0, number = 0;
  for (const uint8_t c : text) {
    number = c >= '0' && c <= '9' && number <= kLargest ? number * 10 + (c - '0') : 0;
    if (number <= kLargest) largest = std::max(largest, number);
  }
  return largest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse(std::as_bytes(std::span(data, size)));
  // Few mutations keep both lengths right: once more with those that the text itself suggests.
  size_t end = size;
  while (end > 8 && data[end - 1] != '}') --end;
  if (end <= 8) return 0;
  std::vector<uint8_t> repaired(data, data + end);
  const uint64_t header_bytes = end - 8;
  std::memcpy(repaired.data(), &header_bytes, 8);
  repaired.resize(end + likely_data_bytes(std::span(data, end).subspan(8)));
  parse(std::as_bytes(std::span(repaired)));
  return 0;
}
