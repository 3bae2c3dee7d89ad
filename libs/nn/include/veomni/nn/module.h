// SPDX-License-Identifier: Apache-2.0
/// A tree of named parts with parameters. No rank, no device magic, no hooks: parallelism meets a model in Unit,
/// AttentionCore, TokenDispatcher and EmbedScatter only.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "veomni/nn/parameter.h"

namespace veomni::nn {

/// Base of everything that owns parameters. Children are members of the derived class; the constructor names them:
///
///     class Mlp : public nn::Module {
///      public:
///       Mlp(int64_t d, int64_t i, const nn::ParamOptions& o) : up_(d, i, o) { child("up", up_); }
///      private:
///       nn::Linear up_;
///     };
///
/// Neither copyable nor movable: parents hold addresses. Not thread-safe.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Calls visit(path, module) for this module and all below, parents first, in registration order. This one's path
  /// is `prefix`.
  void visit(const std::function<void(const std::string& path, Module& module)>& visit,
             const std::string& prefix = "");

  /// This module's own parameters, by their local names.
  const std::vector<std::pair<std::string, Parameter>>& own_parameters() const {
    return parameters_;
  }

  /// Every parameter of the tree once (a tied weight under its first path), in registration order.
  std::vector<std::pair<std::string, Parameter>> named_parameters(const std::string& prefix = "");

 protected:
  Parameter parameter(std::string name, Parameter parameter);
  void child(std::string name, Module& module);

 private:
  std::vector<std::pair<std::string, Parameter>> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
};

/// Gives every parameter and Unit of the tree its dotted path as name. Call once on the root after construction.
void assign_names(Module& root, const std::string& prefix = "");

/// All modules of type T in the tree, with paths, parents first.
template <typename T> std::vector<std::pair<std::string, T*>> find_modules(Module& root) {
  std::vector<std::pair<std::string, T*>> found;
  root.visit([&](const std::string& path, Module& module) {
    if (auto* typed = dynamic_cast<T*>(&module)) found.emplace_back(path, typed);
  });
  return found;
}

/// Joins a path and a name with a dot; an empty path gives the name.
std::string join_path(const std::string& path, const std::string& name);

}  // namespace veomni::nn
