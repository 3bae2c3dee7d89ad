// SPDX-License-Identifier: Apache-2.0
/// One function names a struct's fields; parsing, printing and documentation share it.
///
///     struct OptimOptions { double lr = 1e-3; int64_t warmup_steps = 0; };
///     template <typename Visitor>
///     void visit_fields(Visitor& v, OptimOptions& o) {
///       v("lr", o.lr, "peak learning rate", at_least(0.0));
///       v("warmup_steps", o.warmup_steps, "steps of linear warm-up", at_least(0));
///     }
///
/// Field types: bool, int64_t, int, double, std::string, structs with visit_fields, std::optional<T>,
/// std::vector<T>, std::map<std::string, T>, YAML::Node (anything). A single value is read as a list of one. An unknown key, a wrong type or a value out of range is a ConfigError
/// that names file, line, key, the value seen, and the nearest right key.
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/base/names.h"

namespace veomni {

/// What a value must satisfy. `what` completes the sentence "must be …".
struct Constraint {
  std::string what;
  std::function<bool(double)> number;
  std::vector<std::string> choices;  ///< for strings
};
Constraint at_least(double low);
Constraint more_than(double low);
Constraint between(double low, double high);
Constraint one_of(std::vector<std::string> choices);

/// Where a recipe's values come from, for messages.
struct FieldSource {
  std::string file;
};

namespace detail {
template <typename T> struct is_vector : std::false_type {};
template <typename T> struct is_vector<std::vector<T>> : std::true_type {};
template <typename T> struct is_optional : std::false_type {};
template <typename T> struct is_optional<std::optional<T>> : std::true_type {};
template <typename T> struct is_string_map : std::false_type {};
template <typename T> struct is_string_map<std::map<std::string, T>> : std::true_type {};
template <typename T>
inline constexpr bool is_scalar_field =
    std::is_same_v<T, bool> || std::is_integral_v<T> || std::is_floating_point_v<T> ||
    std::is_same_v<T, std::string>;

std::string child_path(const std::string& path, const std::string& key);
[[noreturn]] void fail_field(const FieldSource& source, const YAML::Node& node,
                             const std::string& path, const std::string& problem);
void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 bool& out);
void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 int64_t& out);
void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 int& out);
void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 double& out);
void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 std::string& out);
void check_constraint(const FieldSource& source, const YAML::Node& node, const std::string& path,
                      double value, const Constraint& constraint);
void check_constraint(const FieldSource& source, const YAML::Node& node, const std::string& path,
                      const std::string& value, const Constraint& constraint);
}  // namespace detail

/// Reads a struct from YAML through its visit_fields.
class FieldReader {
 public:
  /// @param path  dotted path of `node` in the recipe, "" for the root
  FieldReader(FieldSource source, YAML::Node node, std::string path = "")
      : source_(std::move(source)), node_(std::move(node)), path_(std::move(path)) {
    if (node_.IsDefined() && !node_.IsNull() && !node_.IsMap()) {
      detail::fail_field(source_, node_, path_, "must be a section of keys and values");
    }
  }

  template <typename T>
  void operator()(const char* key, T& field, const char* /*help*/,
                  const Constraint& constraint = {}) {
    known_.push_back(key);
    if (!node_.IsMap()) return;
    YAML::Node child = node_[key];
    if (child.IsDefined() && !child.IsNull())
      read(child, detail::child_path(path_, key), field, constraint);
  }

  /// Call after visit_fields: complains of keys that no field took.
  void finish() const;

  template <typename T>
  void read(const YAML::Node& node, const std::string& path, T& field,
            const Constraint& constraint) const {
    if constexpr (std::is_same_v<T, YAML::Node>) {
      field = node;
    } else if constexpr (detail::is_scalar_field<T>) {
      detail::read_scalar(source_, node, path, field);
      if constexpr (std::is_same_v<T, std::string>) {
        if (!constraint.choices.empty())
          detail::check_constraint(source_, node, path, field, constraint);
      } else {
        if (constraint.number)
          detail::check_constraint(source_, node, path, static_cast<double>(field), constraint);
      }
    } else if constexpr (detail::is_optional<T>::value) {
      field.emplace();
      read(node, path, *field, constraint);
    } else if constexpr (detail::is_vector<T>::value) {
      if constexpr (detail::is_scalar_field<typename T::value_type>) {
        // `recompute: layer` is short for `recompute: [layer]`.
        if (node.IsScalar()) {
          field.resize(1);
          read(node, path, field.front(), constraint);
          return;
        }
      }
      if (!node.IsSequence()) detail::fail_field(source_, node, path, "must be a list");
      field.clear();
      for (size_t i = 0; i < node.size(); ++i) {
        field.emplace_back();
        read(node[i], path + "[" + std::to_string(i) + "]", field.back(), constraint);
      }
    } else if constexpr (detail::is_string_map<T>::value) {
      if (!node.IsMap()) detail::fail_field(source_, node, path, "must be a section of names");
      field.clear();
      for (const auto& entry : node) {
        const auto name = entry.first.as<std::string>();
        read(entry.second, detail::child_path(path, name), field[name], constraint);
      }
    } else {
      FieldReader reader(source_, node, path);
      visit_fields(reader, field);
      reader.finish();
    }
  }

 private:
  FieldSource source_;
  YAML::Node node_;
  std::string path_;
  std::vector<std::string> known_;
};

/// Reads `options` from `node`; keys absent keep their defaults.
template <typename T>
void read_fields(const FieldSource& source, const YAML::Node& node, T& options,
                 const std::string& path = "") {
  FieldReader reader(source, node, path);
  visit_fields(reader, options);
  reader.finish();
}

/// Writes a struct as YAML, every field with its value: the resolved recipe.
class FieldWriter {
 public:
  YAML::Node node{YAML::NodeType::Map};

  template <typename T>
  void operator()(const char* key, T& field, const char* /*help*/, const Constraint& = {}) {
    YAML::Node child = write(field);
    if (child.IsDefined() && !child.IsNull()) node[key] = child;
  }

  template <typename T> static YAML::Node write(T& field) {
    if constexpr (std::is_same_v<T, YAML::Node>) {
      return field;
    } else if constexpr (detail::is_scalar_field<T>) {
      return YAML::Node(field);
    } else if constexpr (detail::is_optional<T>::value) {
      return field ? write(*field) : YAML::Node();
    } else if constexpr (detail::is_vector<T>::value) {
      YAML::Node list(YAML::NodeType::Sequence);
      for (auto&& item : field) list.push_back(write(item));
      return list;
    } else if constexpr (detail::is_string_map<T>::value) {
      YAML::Node map(YAML::NodeType::Map);
      for (auto& [name, item] : field) map[name] = write(item);
      return map;
    } else {
      FieldWriter writer;
      visit_fields(writer, field);
      return writer.node;
    }
  }
};

/// One documented field.
struct FieldDoc {
  std::string path;   ///< "optim.lr"
  std::string value;  ///< its default, as YAML; "" where it has none
  std::string help;
  std::string must_be;  ///< the constraint in words, or ""
};

/// Lists a struct's fields for `docs/recipe.md` and `--help`.
class FieldDocs {
 public:
  std::vector<FieldDoc> docs;

  template <typename T>
  void operator()(const char* key, T& field, const char* help, const Constraint& constraint = {}) {
    const std::string path = detail::child_path(path_, key);
    if constexpr (detail::is_scalar_field<T>) {
      docs.push_back({path, YAML::Dump(YAML::Node(field)), help, constraint.what});
    } else if constexpr (detail::is_optional<T>::value || std::is_same_v<T, YAML::Node>) {
      docs.push_back({path, "", help, constraint.what});
    } else if constexpr (detail::is_vector<T>::value) {
      docs.push_back({path, "[]", help, constraint.what});
      if constexpr (!detail::is_scalar_field<typename T::value_type>)
        nested<typename T::value_type>(path + "[]");
    } else if constexpr (detail::is_string_map<T>::value) {
      docs.push_back({path, "{}", help, constraint.what});
      if constexpr (!detail::is_scalar_field<typename T::mapped_type>)
        nested<typename T::mapped_type>(path + ".NAME");
    } else {
      docs.push_back({path, "", help, ""});
      nested(path, field);
    }
  }

 private:
  template <typename T> void nested(const std::string& path, T field = {}) {
    FieldDocs inner;
    inner.path_ = path;
    visit_fields(inner, field);
    docs.insert(docs.end(), inner.docs.begin(), inner.docs.end());
  }
  std::string path_;
};

/// Loads a YAML file. @throws ConfigError naming file, line and the parser's complaint.
YAML::Node load_yaml_file(const std::string& file);

/// Sets the value at a dotted path ("optim.lr") from its YAML text ("1e-3", "[a, b]"), making sections on the way:
/// what `--optim.lr=1e-3` on the command line does.
void set_by_path(YAML::Node& root, const std::string& path, const std::string& yaml_text);

}  // namespace veomni
