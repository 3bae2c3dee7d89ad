// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/tokenizer_json.h"

#include <algorithm>
#include <functional>

#include "in_quotes.h"
#include "tokenizer_check.h"
#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"
#include "veomni/io/mapped_file.h"

namespace veomni::io {

using nlohmann::json;

namespace {

// Sequences inside sequences: real files have one level, and recursion must end on hostile ones.
constexpr int kMaxDepth = 8;

[[noreturn]] void fail_unsupported(const std::string& at, const char* key, const json& value,
                                   const char* supported) {
  const std::string text =
      value.is_string() ? in_quotes(value.get_ref<const std::string&>()) : brief_json(value);
  throw_config_error(at + "." + key + " " + text + " is not supported (supported: " + supported +
                     ")");
}

int32_t require_id(const json& object, const char* key, const std::string& at) {
  const int64_t id = require_int(object, key, at);
  VEOMNI_CHECK_CONFIG(id >= 0 && id <= INT32_MAX, at, ": '", key, "' must be a token id, is ", id);
  return static_cast<int32_t>(id);
}

/// Visits a part that may be null, one object, or a Sequence of objects under `list_key`.
/// @param visit  called as visit(type, object, at) for every object that is not a Sequence
void for_each_step(
    const json& part, const char* list_key, const std::string& at,
    const std::function<void(const std::string&, const json&, const std::string&)>& visit,
    int depth = 0) {
  if (part.is_null()) return;
  VEOMNI_CHECK_CONFIG(depth < kMaxDepth, at, ": sequences are nested more than ", kMaxDepth,
                      " deep");
  const std::string type = require_string(part, "type", at);
  if (type != "Sequence") return visit(type, part, at);
  const json& steps = require_array(part, list_key, at);
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string inner = detail::concat(at, ".", list_key, "[", i, "]");
    VEOMNI_CHECK_CONFIG(steps[i].is_object(), inner, " must be an object, is ",
                        brief_json(steps[i]));
    for_each_step(steps[i], list_key, inner, visit, depth + 1);
  }
}

/// The value under `key`, null where it is absent.
const json& part_of(const json& root, const char* key) {
  static const json kNull;
  const auto found = root.find(key);
  return found == root.end() ? kNull : *found;
}

void parse_normalizer(const json& root, const std::string& where, TokenizerSpec& spec) {
  for_each_step(part_of(root, "normalizer"), "normalizers", where + ": normalizer",
                [&](const std::string& type, const json& step, const std::string& at) {
                  if (type != "NFC") fail_unsupported(at, "type", step["type"], "NFC, Sequence");
                  spec.normalizers.push_back(NormalizerKind::kNfc);
                });
}

PreTokenizerStep parse_split(const json& object, const std::string& at) {
  PreTokenizerStep step{.kind = PreTokenizerStep::Kind::kSplit};
  const json& pattern = require_object(object, "pattern", at);
  if (!pattern.contains("Regex")) {
    throw_config_error(at + ".pattern is not supported (supported: {\"Regex\": ...})");
  }
  step.pattern = require_string(pattern, "Regex", at + ".pattern");
  const std::string behavior = require_string(object, "behavior", at);
  if (behavior != "Isolated" && behavior != "Removed") {
    fail_unsupported(at, "behavior", object["behavior"], "Isolated, Removed");
  }
  step.behavior = behavior == "Removed" ? PreTokenizerStep::Behavior::kRemoved
                                        : PreTokenizerStep::Behavior::kIsolated;
  step.invert = get_or(object, "invert", false, at);
  return step;
}

PreTokenizerStep parse_pre_tokenizer(const std::string& type, const json& object,
                                     const std::string& at) {
  if (type == "Split") return parse_split(object, at);
  PreTokenizerStep step;
  if (type == "ByteLevel") {
    step.add_prefix_space = get_or(object, "add_prefix_space", true, at);
    step.use_regex = get_or(object, "use_regex", true, at);
  } else if (type == "Digits") {
    step.kind = PreTokenizerStep::Kind::kDigits;
    step.individual_digits = get_or(object, "individual_digits", false, at);
  } else {
    fail_unsupported(at, "type", object["type"], "ByteLevel, Split, Digits, Sequence");
  }
  return step;
}

void parse_pre_tokenizers(const json& root, const std::string& where, TokenizerSpec& spec) {
  for_each_step(part_of(root, "pre_tokenizer"), "pretokenizers", where + ": pre_tokenizer",
                [&](const std::string& type, const json& object, const std::string& at) {
                  spec.pre_tokenizers.push_back(parse_pre_tokenizer(type, object, at));
                });
}

void parse_decoder(const json& root, const std::string& where, TokenizerSpec& spec) {
  const json& decoder = part_of(root, "decoder");
  if (decoder.is_null()) return;
  const std::string at = where + ": decoder";
  if (require_string(decoder, "type", at) != "ByteLevel") {
    fail_unsupported(at, "type", decoder["type"], "ByteLevel, null");
  }
  spec.byte_level_decoder = true;
}

TemplateToken parse_template_token(const json& piece, const json& special_tokens,
                                   const std::string& at) {
  TemplateToken token;
  token.token = require_string(piece, "id", at);
  const std::string place = at + ".special_tokens";
  const json& entry = require_object(special_tokens, token.token.c_str(), place);
  const json& ids = require_array(entry, "ids", place);
  for (const json& id : ids) {
    // One getter checks type and range: it wants an object.
    token.ids.push_back(require_id(json{{"ids", id}}, "ids", place));
  }
  return token;
}

/// "single": special tokens, one Sequence A, special tokens.
void parse_template(const json& object, const std::string& at, TokenizerSpec& spec) {
  VEOMNI_CHECK_CONFIG(spec.template_prefix.empty() && spec.template_suffix.empty(), at,
                      ": a second TemplateProcessing is not supported");
  const json& special_tokens = require_object(object, "special_tokens", at);
  bool text_seen = false;
  for (const json& piece : require_array(object, "single", at)) {
    VEOMNI_CHECK_CONFIG(piece.is_object(), at, ".single must be a list of objects, has ",
                        brief_json(piece));
    if (piece.contains("SpecialToken")) {
      const json& token = require_object(piece, "SpecialToken", at + ".single");
      auto& side = text_seen ? spec.template_suffix : spec.template_prefix;
      side.push_back(parse_template_token(token, special_tokens, at));
    } else {
      const json& text = require_object(piece, "Sequence", at + ".single");
      VEOMNI_CHECK_CONFIG(!text_seen && require_string(text, "id", at + ".single") == "A", at,
                          ".single must hold the sequence A once");
      text_seen = true;
    }
  }
  VEOMNI_CHECK_CONFIG(text_seen, at, ".single must hold the sequence A once");
}

void parse_post_processor(const json& root, const std::string& where, TokenizerSpec& spec) {
  for_each_step(part_of(root, "post_processor"), "processors", where + ": post_processor",
                [&](const std::string& type, const json& object, const std::string& at) {
                  if (type == "ByteLevel") return;  // moves offsets only, and we give none
                  if (type != "TemplateProcessing") {
                    fail_unsupported(at, "type", object["type"],
                                     "ByteLevel, TemplateProcessing, Sequence");
                  }
                  parse_template(object, at, spec);
                });
}

void parse_added_tokens(const json& root, const std::string& where, TokenizerSpec& spec) {
  if (!has_value(root, "added_tokens")) return;
  const json& tokens = require_array(root, "added_tokens", where);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string at = where + ": added_tokens[" + std::to_string(i) + "]";
    AddedToken token;
    token.id = require_id(tokens[i], "id", at);
    token.content = require_string(tokens[i], "content", at);
    token.special = get_or(tokens[i], "special", false, at);
    token.lstrip = get_or(tokens[i], "lstrip", false, at);
    token.rstrip = get_or(tokens[i], "rstrip", false, at);
    token.single_word = get_or(tokens[i], "single_word", false, at);
    token.normalized = get_or(tokens[i], "normalized", !token.special, at);
    spec.added_tokens.push_back(std::move(token));
  }
}

/// "a b" or ["a", "b"].
std::pair<std::string, std::string> parse_merge(const json& merge, const std::string& where,
                                                size_t rank) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const std::string& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  const std::string seen =
      merge.is_string() ? in_quotes(merge.get_ref<const std::string&>()) : brief_json(merge);
  throw_config_error(detail::concat(where, ": model.merges[", rank,
                                    "] must be \"a b\" or [\"a\", \"b\"], is ", seen));
}

void parse_model_flags(const json& model, const std::string& at, TokenizerSpec& spec) {
  if (has_value(model, "type") && require_string(model, "type", at) != "BPE") {
    fail_unsupported(at, "type", model["type"], "BPE");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!get_or(model, key, "", at).empty()) fail_unsupported(at, key, model[key], "null");
  }
  if (get_or(model, "dropout", 0.0, at) != 0.0)
    fail_unsupported(at, "dropout", model["dropout"], "null");
  spec.unk_token = get_or(model, "unk_token", "", at);
  spec.ignore_merges = get_or(model, "ignore_merges", false, at);
  spec.byte_fallback = get_or(model, "byte_fallback", false, at);
  spec.fuse_unk = get_or(model, "fuse_unk", false, at);
}

void parse_model(const json& root, const std::string& where, TokenizerSpec& spec) {
  const json& model = require_object(root, "model", where);
  const std::string at = where + ": model";
  parse_model_flags(model, at, spec);
  const json& vocab = require_object(model, "vocab", at);
  spec.vocab.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() <= INT32_MAX;
    VEOMNI_CHECK_CONFIG(fits, at, ".vocab: token ", in_quotes(token), " must have an id, has ",
                        brief_json(id));
    spec.vocab.emplace(token, id.get<int32_t>());
  }
  const json& merges = require_array(model, "merges", at);
  spec.merges.reserve(merges.size());
  for (const json& merge : merges)
    spec.merges.push_back(parse_merge(merge, where, spec.merges.size()));
}

}  // namespace

int64_t TokenizerSpec::vocab_size() const {
  int64_t highest = -1;
  for (const auto& [token, id] : vocab) highest = std::max<int64_t>(highest, id);
  for (const AddedToken& token : added_tokens) highest = std::max<int64_t>(highest, token.id);
  return highest + 1;
}

TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& where) {
  const json root = parse_json(text, where);
  VEOMNI_CHECK_CONFIG(root.is_object(), where, ": must be an object, is ", brief_json(root));
  TokenizerSpec spec;
  parse_normalizer(root, where, spec);
  parse_pre_tokenizers(root, where, spec);
  parse_decoder(root, where, spec);
  parse_post_processor(root, where, spec);
  parse_added_tokens(root, where, spec);
  parse_model(root, where, spec);
  check_tokenizer(spec, where);
  return spec;
}

TokenizerSpec read_tokenizer_json(const std::string& path) {
  return parse_tokenizer_json(MappedFile(path).text(), path);
}

}  // namespace veomni::io
