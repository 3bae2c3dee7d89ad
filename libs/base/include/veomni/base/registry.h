// SPDX-License-Identifier: Apache-2.0
/// Names to factories, filled by one explicit list (static initialisers of a static library are dropped by the linker).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/base/names.h"

namespace veomni {

/// Makes a T from Args by name. An unknown name throws ConfigError that lists the known ones.
template <typename T, typename... Args> class Registry {
 public:
  using Factory = std::function<std::unique_ptr<T>(Args...)>;

  /// @param what  the kind of thing in error texts: "foundation", "decoder"
  explicit Registry(std::string what) : what_(std::move(what)) {}

  void add(const std::string& name, Factory factory) {
    VEOMNI_CHECK(factories_.emplace(name, std::move(factory)).second, what_, " '", name,
                 "' is registered twice");
  }

  bool has(const std::string& name) const { return factories_.count(name) > 0; }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, factory] : factories_) names.push_back(name);
    return names;
  }

  std::unique_ptr<T> make(const std::string& name, Args... args) const {
    auto found = factories_.find(name);
    VEOMNI_CHECK_CONFIG(found != factories_.end(), unknown_name_message(what_, name, names()));
    return found->second(std::forward<Args>(args)...);
  }

 private:
  std::string what_;
  std::map<std::string, Factory> factories_;
};

}  // namespace veomni
