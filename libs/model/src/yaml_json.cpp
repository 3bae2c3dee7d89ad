// SPDX-License-Identifier: Apache-2.0
#include "yaml_json.h"

namespace veomni::model {

namespace {
nlohmann::json scalar_to_json(const YAML::Node& node) {
  if (node.Tag() == "!") return node.Scalar();  // yaml-cpp's tag of a quoted scalar
  int64_t whole = 0;
  double real = 0;
  bool flag = false;
  if (YAML::convert<int64_t>::decode(node, whole)) return whole;
  if (YAML::convert<double>::decode(node, real)) return real;
  if (YAML::convert<bool>::decode(node, flag)) return flag;
  return node.Scalar();
}
}  // namespace

nlohmann::json yaml_to_json(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map: {
      auto object = nlohmann::json::object();
      for (const auto& entry : node)
        object[entry.first.as<std::string>()] = yaml_to_json(entry.second);
      return object;
    }
    case YAML::NodeType::Sequence: {
      auto array = nlohmann::json::array();
      for (const auto& item : node) array.push_back(yaml_to_json(item));
      return array;
    }
    case YAML::NodeType::Scalar: return scalar_to_json(node);
    default: return nullptr;
  }
}

}  // namespace veomni::model
