// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/module.h"

#include <set>

#include "veomni/base/error.h"
#include "veomni/nn/unit.h"

namespace veomni::nn {

std::string join_path(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

void Module::visit(const std::function<void(const std::string&, Module&)>& visit,
                   const std::string& prefix) {
  visit(prefix, *this);
  for (auto& [name, child] : children_) child->visit(visit, join_path(prefix, name));
}

std::vector<std::pair<std::string, Parameter>> Module::named_parameters(const std::string& prefix) {
  std::vector<std::pair<std::string, Parameter>> named;
  std::set<const void*> seen;
  visit(
      [&](const std::string& path, Module& module) {
        for (const auto& [name, parameter] : module.own_parameters()) {
          if (seen.insert(parameter.id()).second)
            named.emplace_back(join_path(path, name), parameter);
        }
      },
      prefix);
  return named;
}

Parameter Module::parameter(std::string name, Parameter parameter) {
  parameters_.emplace_back(std::move(name), parameter);
  return parameter;
}

void Module::child(std::string name, Module& module) {
  children_.emplace_back(std::move(name), &module);
}

void assign_names(Module& root, const std::string& prefix) {
  for (auto& [path, parameter] : root.named_parameters(prefix)) parameter.set_name(path);
  root.visit(
      [](const std::string& path, Module& module) {
        if (auto* unit = dynamic_cast<Unit*>(&module)) unit->set_name(path);
      },
      prefix);
}

}  // namespace veomni::nn
