// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/fields.h"

#include <cmath>
#include <filesystem>
#include <sstream>

namespace veomni {

namespace {
std::string number_text(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}
}  // namespace

Constraint at_least(double low) {
  return {"at least " + number_text(low), [low](double v) { return v >= low; }, {}};
}
Constraint more_than(double low) {
  return {"more than " + number_text(low), [low](double v) { return v > low; }, {}};
}
Constraint between(double low, double high) {
  return {"between " + number_text(low) + " and " + number_text(high),
          [low, high](double v) { return v >= low && v <= high; },
          {}};
}
Constraint one_of(std::vector<std::string> choices) {
  std::string what = "one of " + join(choices);
  return {std::move(what), nullptr, std::move(choices)};
}

namespace detail {

std::string child_path(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

void fail_field(const FieldSource& source, const YAML::Node& node, const std::string& path,
                const std::string& problem) {
  std::string where = source.file;
  if (node.IsDefined() && !node.Mark().is_null() && node.Mark().line >= 0) {
    where += ":" + std::to_string(node.Mark().line + 1);
  }
  std::string seen;
  if (node.IsDefined() && node.IsScalar()) seen = ", got '" + node.Scalar() + "'";
  throw_config_error(where + ": " + (path.empty() ? "the recipe" : path) + " " + problem + seen);
}

namespace {
template <typename T>
void read_as(const FieldSource& source, const YAML::Node& node, const std::string& path, T& out,
             const char* kind) {
  if (!node.IsScalar() || !YAML::convert<T>::decode(node, out)) {
    fail_field(source, node, path, std::string("must be ") + kind);
  }
}
}  // namespace

void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 bool& out) {
  read_as(source, node, path, out, "true or false");
}

void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 int64_t& out) {
  if (node.IsScalar() && YAML::convert<int64_t>::decode(node, out)) return;
  // 1e6 and 2_000 style: whole numbers written as floats are welcome.
  double value = 0;
  if (node.IsScalar() && YAML::convert<double>::decode(node, value) && value == std::floor(value) &&
      std::abs(value) < 9e15) {
    out = static_cast<int64_t>(value);
    return;
  }
  fail_field(source, node, path, "must be a whole number");
}

void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 int& out) {
  int64_t wide = 0;
  read_scalar(source, node, path, wide);
  if (wide < INT32_MIN || wide > INT32_MAX) fail_field(source, node, path, "must fit 32 bits");
  out = static_cast<int>(wide);
}

void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 double& out) {
  read_as(source, node, path, out, "a number");
  if (!std::isfinite(out)) fail_field(source, node, path, "must be finite");
}

void read_scalar(const FieldSource& source, const YAML::Node& node, const std::string& path,
                 std::string& out) {
  read_as(source, node, path, out, "text");
}

void check_constraint(const FieldSource& source, const YAML::Node& node, const std::string& path,
                      double value, const Constraint& constraint) {
  if (!constraint.number(value)) fail_field(source, node, path, "must be " + constraint.what);
}

void check_constraint(const FieldSource& source, const YAML::Node& node, const std::string& path,
                      const std::string& value, const Constraint& constraint) {
  for (const auto& choice : constraint.choices) {
    if (choice == value) return;
  }
  const std::string nearest = nearest_name(value, constraint.choices);
  fail_field(
      source, node, path,
      "must be " + constraint.what + (nearest.empty() ? "" : " (did you mean " + nearest + "?)"));
}

}  // namespace detail

void FieldReader::finish() const {
  if (!node_.IsMap()) return;
  for (const auto& entry : node_) {
    const auto key = entry.first.as<std::string>();
    bool found = false;
    for (const auto& name : known_) found = found || name == key;
    if (found) continue;
    const std::string nearest = nearest_name(key, known_);
    std::string where = source_.file;
    if (entry.first.Mark().line >= 0) where += ":" + std::to_string(entry.first.Mark().line + 1);
    throw_config_error(
        where + ": unknown key '" + detail::child_path(path_, key) + "'" +
        (nearest.empty() ? "" : "; did you mean '" + detail::child_path(path_, nearest) + "'?") +
        " (known here: " + join(known_) + ")");
  }
}

YAML::Node load_yaml_file(const std::string& file) {
  VEOMNI_CHECK_CONFIG(std::filesystem::is_regular_file(file), "no such file: ", file);
  try {
    return YAML::LoadFile(file);
  } catch (const YAML::Exception& error) {
    throw_config_error(file + ":" + std::to_string(error.mark.line + 1) +
                       ": not valid YAML: " + error.msg);
  }
}

void set_by_path(YAML::Node& root, const std::string& path, const std::string& yaml_text) {
  YAML::Node value;
  try {
    value = YAML::Load(yaml_text);
  } catch (const YAML::Exception& error) {
    throw_config_error("--" + path + "=" + yaml_text + ": not valid YAML: " + error.msg);
  }
  // A node made empty has no identity yet: two copies of it would grow apart.
  if (root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  VEOMNI_CHECK_CONFIG(root.IsMap(), "--", path, ": the recipe is not a section of keys and values");
  YAML::Node at = root;
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    const std::string key = path.substr(begin, dot - begin);
    VEOMNI_CHECK_CONFIG(!key.empty(), "--", path, ": empty name between dots");
    if (dot == std::string::npos) {
      at[key] = value;
      return;
    }
    YAML::Node next = at[key];
    if (!next.IsDefined() || next.IsNull()) {
      at[key] = YAML::Node(YAML::NodeType::Map);
      next = at[key];
    }
    VEOMNI_CHECK_CONFIG(next.IsMap(), "--", path, ": '", path.substr(0, dot),
                        "' is a value, not a section");
    at.reset(next);
    begin = dot + 1;
  }
}

}  // namespace veomni
