// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/tensor_rule.h"

#include <algorithm>
#include <map>
#include <optional>

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"

namespace veomni::io {

namespace {

constexpr std::string_view kLayer = "{}";
constexpr std::string_view kExpert = "{e}";

size_t count_of(std::string_view text, std::string_view what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size()))
    ++count;
  return count;
}

/// The digits each `{}` of the pattern stands for in `name`, or nothing if it does not match.
std::optional<std::vector<std::string>> match_layers(std::string_view name,
                                                     std::string_view pattern) {
  std::vector<std::string> layers;
  while (true) {
    const size_t hole = pattern.find(kLayer);
    const std::string_view literal = pattern.substr(0, hole);
    if (name.substr(0, literal.size()) != literal) return {};
    name.remove_prefix(literal.size());
    if (hole == pattern.npos) break;
    pattern.remove_prefix(hole + kLayer.size());
    size_t digits = name.find_first_not_of("0123456789");
    if (digits == name.npos) digits = name.size();
    if (digits == 0) return {};
    layers.emplace_back(name.substr(0, digits));
    name.remove_prefix(digits);
  }
  if (!name.empty()) return {};
  return layers;
}

std::string fill(std::string pattern, const std::vector<std::string>& layers, int64_t expert) {
  for (const std::string& layer : layers)
    pattern.replace(pattern.find(kLayer), kLayer.size(), layer);
  const size_t hole = pattern.find(kExpert);
  if (hole != pattern.npos) pattern.replace(hole, kExpert.size(), std::to_string(expert));
  return pattern;
}

bool is_stack(Combine combine) {
  return combine == Combine::kStack || combine == Combine::kStackOfConcat;
}
bool is_concat(Combine combine) {
  return combine == Combine::kConcat || combine == Combine::kStackOfConcat;
}

void check_rule(const TensorRule& rule) {
  const auto check = [&](bool ok, const auto&... problem) {
    if (!ok)
      throw_error(detail::concat("tensor rule for ", in_quotes(rule.param), " ", problem...));
  };
  check(!rule.param.empty() && !rule.files.empty(),
        "needs a parameter and at least one file tensor");
  check(rule.param.find(kExpert) == rule.param.npos,
        "has {e} in the parameter, which holds all experts");
  check(rule.dim == 0, "joins dim ", rule.dim,
        ": only dim 0 is row-major contiguous, so that a rank can read its bytes alone");
  check(is_concat(rule.combine) || rule.files.size() == 1, "names ", rule.files.size(),
        " file tensors, its combine takes one");
  for (const std::string& file : rule.files) {
    check(count_of(file, kLayer) == count_of(rule.param, kLayer), "has another number of {} in ",
          in_quotes(file));
    check(count_of(file, kExpert) == (is_stack(rule.combine) ? 1u : 0u), "needs ",
          is_stack(rule.combine) ? "one {e}" : "no {e}", " in ", in_quotes(file));
  }
  check(rule.reshape.empty() || rule.combine == Combine::kOnly,
        "can reshape with combine kOnly alone");
  check(std::count(rule.reshape.begin(), rule.reshape.end(), -1) <= 1,
        "has more than one -1 in reshape");
  check(rule.reshape.empty() || *std::min_element(rule.reshape.begin(), rule.reshape.end()) >= -1,
        "has a negative size in reshape ", shape_text(rule.reshape));
  check(rule.rows.empty() || (is_concat(rule.combine) && rule.rows.size() == rule.files.size()),
        "gives ", rule.rows.size(), " rows for ", rule.files.size(),
        " file tensors; rows belong to a concat");
  check(rule.rows.empty() || *std::min_element(rule.rows.begin(), rule.rows.end()) >= 0,
        "has negative rows");
}

[[noreturn]] void fail_shape(const ParamShape& param, const std::string& problem) {
  throw_error("parameter " + in_quotes(param.name) + " of shape " + shape_text(param.shape) + " " +
              problem);
}

/// reshape with its -1 filled in, so that it has as many elements as the parameter.
std::vector<int64_t> reshaped(const ParamShape& param, std::vector<int64_t> shape) {
  const int64_t count = num_elements(param.shape);
  const auto hole = std::find(shape.begin(), shape.end(), -1);
  if (hole != shape.end()) {
    *hole = 1;
    const int64_t known = num_elements(shape);
    if (known == 0 || count % known != 0)
      fail_shape(param, "cannot be reshaped into " + shape_text(shape));
    *hole = count / known;
  }
  if (num_elements(shape) != count)
    fail_shape(param, "cannot be reshaped into " + shape_text(shape));
  return shape;
}

/// Rows of each file tensor of a concat whose joined dim has `total` rows.
std::vector<int64_t> concat_rows(const TensorRule& rule, const ParamShape& param, int64_t total) {
  const auto parts = static_cast<int64_t>(rule.files.size());
  if (rule.rows.empty()) {
    if (total % parts != 0) {
      fail_shape(param, detail::concat("does not divide into ", parts, " equal file tensors"));
    }
    return std::vector<int64_t>(rule.files.size(), total / parts);
  }
  int64_t sum = 0;
  for (const int64_t rows : rule.rows) sum += rows;
  if (sum != total)
    fail_shape(param, detail::concat("has ", total, " rows to split, the rule gives ", sum));
  return rule.rows;
}

/// The shapes of the rule's file tensors for one expert (or for the whole parameter).
std::vector<std::vector<int64_t>> file_shapes(const TensorRule& rule, const ParamShape& param) {
  if (!rule.reshape.empty()) return {reshaped(param, rule.reshape)};
  std::vector<int64_t> inner = param.shape;
  const size_t joined_dims = (is_stack(rule.combine) ? 1 : 0) + (is_concat(rule.combine) ? 1 : 0);
  if (inner.size() < joined_dims) fail_shape(param, "has too few dims for its rule's combine");
  if (is_stack(rule.combine)) inner.erase(inner.begin());
  if (!is_concat(rule.combine)) return {inner};
  std::vector<std::vector<int64_t>> shapes;
  for (const int64_t rows : concat_rows(rule, param, inner[0])) {
    inner[0] = rows;
    shapes.push_back(inner);
  }
  return shapes;
}

ParamParts expand(const TensorRule& rule, const std::vector<std::string>& layers,
                  const ParamShape& param) {
  const auto shapes = file_shapes(rule, param);
  const int64_t experts = is_stack(rule.combine) ? param.shape[0] : 1;
  ParamParts out{param.name, param.shape, {}};
  int64_t begin = 0;
  for (int64_t e = 0; e < experts; ++e) {
    for (size_t f = 0; f < rule.files.size(); ++f) {
      out.parts.push_back({fill(rule.files[f], layers, e), shapes[f], begin});
      begin += num_elements(shapes[f]);
    }
  }
  return out;
}

}  // namespace

RuleSet::RuleSet(std::vector<TensorRule> rules, std::vector<std::string> ignored)
    : rules_(std::move(rules)), ignored_(std::move(ignored)) {
  for (const TensorRule& rule : rules_) check_rule(rule);
}

ParamParts RuleSet::resolve(const ParamShape& param) const {
  const TensorRule* taken = nullptr;
  std::vector<std::string> layers;
  for (const TensorRule& rule : rules_) {
    auto match = match_layers(param.name, rule.param);
    if (!match) continue;
    VEOMNI_CHECK(taken == nullptr, "two tensor rules take parameter ", in_quotes(param.name), ": ",
                 in_quotes(taken->param), " and ", in_quotes(rule.param));
    taken = &rule;
    layers = std::move(*match);
  }
  if (taken == nullptr) fail_shape(param, "is fed by no tensor rule");
  return expand(*taken, layers, param);
}

std::vector<ParamParts> RuleSet::resolve_all(const std::vector<ParamShape>& params) const {
  std::vector<ParamParts> resolved;
  std::map<std::string, std::string> owner;
  for (const ParamShape& param : params) {
    resolved.push_back(resolve(param));
    for (const FilePart& part : resolved.back().parts) {
      const auto [entry, fresh] = owner.emplace(part.tensor, param.name);
      VEOMNI_CHECK(fresh, "file tensor ", in_quotes(part.tensor), " feeds both ", entry->second,
                   " and ", param.name);
    }
  }
  return resolved;
}

namespace {

std::string renamed(const std::string& name, const std::vector<Lead>& leads) {
  const Lead* best = nullptr;
  for (const Lead& lead : leads) {
    if (name.starts_with(lead.own) && (!best || lead.own.size() > best->own.size())) best = &lead;
  }
  VEOMNI_CHECK(best, "no lead says how ", in_quotes(name), " is called in a whole model's files");
  return best->whole + name.substr(best->own.size());
}

}  // namespace

RuleSet RuleSet::under(const std::vector<Lead>& leads) const {
  RuleSet moved = *this;
  for (TensorRule& rule : moved.rules_) {
    for (std::string& file : rule.files) file = renamed(file, leads);
  }
  for (std::string& pattern : moved.ignored_) {
    // A pattern that no lead fits (it may begin with *) is kept as it is.
    const bool fits = std::any_of(leads.begin(), leads.end(),
                                  [&](const Lead& lead) { return pattern.starts_with(lead.own); });
    if (fits) pattern = renamed(pattern, leads);
  }
  moved.only_under_.clear();
  for (const Lead& lead : leads) moved.only_under_.push_back(lead.whole);
  return moved;
}

bool RuleSet::ignores(std::string_view file_tensor) const {
  const bool ours = only_under_.empty() || std::any_of(only_under_.begin(), only_under_.end(),
                                                       [&](const std::string& lead) {
                                                         return file_tensor.starts_with(lead);
                                                       });
  if (!ours) return true;
  return std::any_of(ignored_.begin(), ignored_.end(), [&](const std::string& pattern) {
    return matches_pattern(file_tensor, pattern);
  });
}

}  // namespace veomni::io
