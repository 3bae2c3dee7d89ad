// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "tokenizer_check.h"
#include "veomni/base/error.h"
#include "veomni/io/tokenizer_json.h"

namespace veomni::io {

using nlohmann::json;

namespace {

/// null, the one step, or a Sequence of them.
json sequence(std::vector<json> steps, const char* list_key) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return std::move(steps.front());
  return {{"type", "Sequence"}, {list_key, std::move(steps)}};
}

json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json pre_tokenizer_json(const PreTokenizerStep& step) {
  switch (step.kind) {
    case PreTokenizerStep::Kind::kByteLevel:
      return byte_level(step.add_prefix_space, step.use_regex);
    case PreTokenizerStep::Kind::kDigits:
      return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
    case PreTokenizerStep::Kind::kSplit: break;
  }
  const bool removed = step.behavior == PreTokenizerStep::Behavior::kRemoved;
  return {{"type", "Split"},
          {"pattern", {{"Regex", step.pattern}}},
          {"behavior", removed ? "Removed" : "Isolated"},
          {"invert", step.invert}};
}

json added_token_json(const AddedToken& token) {
  return {{"id", token.id},          {"content", token.content}, {"single_word", token.single_word},
          {"lstrip", token.lstrip},  {"rstrip", token.rstrip},   {"normalized", token.normalized},
          {"special", token.special}};
}

/// The pieces of a template for one of its sequences.
void append_pieces(const TokenizerSpec& spec, const char* sequence_id, int type_id, json& pieces) {
  const auto append = [&](const char* kind, const std::string& id) {
    pieces.push_back({{kind, {{"id", id}, {"type_id", type_id}}}});
  };
  for (const TemplateToken& token : spec.template_prefix) append("SpecialToken", token.token);
  append("Sequence", sequence_id);
  for (const TemplateToken& token : spec.template_suffix) append("SpecialToken", token.token);
}

json post_processor_json(const TokenizerSpec& spec) {
  if (spec.template_prefix.empty() && spec.template_suffix.empty()) return nullptr;
  json special_tokens = json::object();
  for (const auto* side : {&spec.template_prefix, &spec.template_suffix}) {
    for (const TemplateToken& token : *side) {
      special_tokens[token.token] = {
          {"id", token.token},
          {"ids", token.ids},
          {"tokens", std::vector<std::string>(token.ids.size(), token.token)}};
    }
  }
  json single = json::array(), pair = json::array();
  append_pieces(spec, "A", 0, single);
  append_pieces(spec, "A", 0, pair);
  append_pieces(spec, "B", 1, pair);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", special_tokens}};
}

json model_json(const TokenizerSpec& spec) {
  json vocab = json::object(), merges = json::array();
  for (const auto& [token, id] : spec.vocab) vocab[token] = id;
  for (const auto& [left, right] : spec.merges) merges.push_back(json::array({left, right}));
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", spec.unk_token.empty() ? json(nullptr) : json(spec.unk_token)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unk},
          {"byte_fallback", spec.byte_fallback},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string write_tokenizer_json(const TokenizerSpec& spec) {
  check_tokenizer(spec, "the tokenizer to write");
  std::vector<json> pre_tokenizers, added_tokens;
  for (const PreTokenizerStep& step : spec.pre_tokenizers)
    pre_tokenizers.push_back(pre_tokenizer_json(step));
  for (const AddedToken& token : spec.added_tokens) added_tokens.push_back(added_token_json(token));
  const std::vector<json> normalizers(spec.normalizers.size(), json{{"type", "NFC"}});
  const json root = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens},
                     {"normalizer", sequence(normalizers, "normalizers")},
                     {"pre_tokenizer", sequence(std::move(pre_tokenizers), "pretokenizers")},
                     {"post_processor", post_processor_json(spec)},
                     {"decoder", spec.byte_level_decoder ? byte_level(true, true) : json(nullptr)},
                     {"model", model_json(spec)}};
  try {
    return root.dump(1) + "\n";
  } catch (const json::exception&) {
    throw_config_error("the tokenizer to write holds a token that is not UTF-8");
  }
}

}  // namespace veomni::io
