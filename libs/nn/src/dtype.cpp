// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/dtype.h"

#include "veomni/base/error.h"
#include "veomni/base/names.h"

namespace veomni::nn {

namespace {
struct Row {
  io::DType file;
  torch::ScalarType torch;
};
constexpr Row kRows[] = {
    {io::DType::F64, torch::kDouble},    {io::DType::F32, torch::kFloat},
    {io::DType::BF16, torch::kBFloat16}, {io::DType::F16, torch::kHalf},
    {io::DType::I64, torch::kLong},      {io::DType::I32, torch::kInt},
    {io::DType::I16, torch::kShort},     {io::DType::I8, torch::kChar},
    {io::DType::U8, torch::kByte},       {io::DType::BOOL, torch::kBool},
};
const std::vector<std::pair<std::string, torch::ScalarType>> kWords = {
    {"float32", torch::kFloat},
    {"bfloat16", torch::kBFloat16},
    {"float64", torch::kDouble},
    {"float16", torch::kHalf}};
}  // namespace

torch::ScalarType torch_dtype(io::DType dtype) {
  for (const auto& row : kRows) {
    if (row.file == dtype) return row.torch;
  }
  throw_error("no tensor type for this file type");
}

io::DType io_dtype(torch::ScalarType dtype) {
  for (const auto& row : kRows) {
    if (row.torch == dtype) return row.file;
  }
  throw_error(detail::concat("tensors of type ", dtype, " cannot be saved"));
}

torch::ScalarType parse_dtype(const std::string& name) {
  std::vector<std::string> known;
  for (const auto& [word, dtype] : kWords) {
    if (word == name) return dtype;
    known.push_back(word);
  }
  throw_config_error(unknown_name_message("dtype", name, known));
}

std::string dtype_word(torch::ScalarType dtype) {
  for (const auto& [word, candidate] : kWords) {
    if (candidate == dtype) return word;
  }
  return detail::concat(dtype);
}

std::span<const std::byte> tensor_bytes(const torch::Tensor& tensor) {
  VEOMNI_CHECK(tensor.is_contiguous() && tensor.device().is_cpu(),
               "only contiguous CPU tensors have bytes to save");
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

}  // namespace veomni::nn
