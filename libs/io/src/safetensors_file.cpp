// SPDX-License-Identifier: Apache-2.0
#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/io/safetensors.h"

namespace veomni::io {

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(path), layout_(parse_safetensors(file_.bytes(), path)) {}

TensorView SafetensorsFile::tensor(std::string_view name) const {
  const TensorInfo* info = layout_.header.find(name);
  if (info == nullptr) {
    const std::string nearest = nearest_name(name, names());
    throw_error(detail::concat(path(), " has no tensor ", in_quotes(name),
                               nearest.empty() ? "" : "; did you mean ", nearest));
  }
  const auto data = file_.bytes().subspan(layout_.data_begin);
  return {info->dtype, info->shape, data.subspan(info->begin, info->end - info->begin)};
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  names.reserve(layout_.header.tensors.size());
  for (const TensorInfo& tensor : layout_.header.tensors) names.push_back(tensor.name);
  return names;
}

}  // namespace veomni::io
