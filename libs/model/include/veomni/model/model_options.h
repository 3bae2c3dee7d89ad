// SPDX-License-Identifier: Apache-2.0
/// The recipe's `model` section.
#pragma once

#include <map>
#include <string>

#include "veomni/base/fields.h"

namespace veomni::model {

/// One part of a model in a recipe.
struct PartOptions {
  std::string type;
  std::string path;   ///< a Hugging Face directory: config and weights
  YAML::Node config;  ///< or a config.json's content, initialised at random
  YAML::Node preprocessor;
  std::string train = "all";
};

struct FoundationOptions : PartOptions {};
struct EncoderOptions : PartOptions {};
struct DecoderOptions : PartOptions {};

namespace detail {
template <typename Visitor>
void visit_part(Visitor& v, PartOptions& o, const char* train_help, const Constraint& train) {
  v("type", o.type, "its model_type; default: what the config says (`veomni models` lists them)");
  v("path", o.path,
    "Hugging Face directory with config.json and safetensors: its own, or a whole model's that "
    "holds it");
  v("config", o.config, "content of a config.json, for a part from scratch (instead of path)");
  v("preprocessor", o.preprocessor,
    "content of a preprocessor_config.json: how media become its input; keys replace those of the "
    "path's file");
  v("train", o.train, train_help, train);
}
}  // namespace detail

template <typename Visitor> void visit_fields(Visitor& v, FoundationOptions& o) {
  detail::visit_part(v, o, "which of its parameters are trained", one_of({"none", "all"}));
}
template <typename Visitor> void visit_fields(Visitor& v, EncoderOptions& o) {
  detail::visit_part(v, o,
                     "which of its parameters are trained; projector: what maps to the "
                     "foundation's width",
                     one_of({"none", "projector", "all"}));
}
template <typename Visitor> void visit_fields(Visitor& v, DecoderOptions& o) {
  detail::visit_part(v, o,
                     "which of its parameters are trained; head: aligner and classifier; all: the "
                     "embedding of codes too. Beside a foundation the tokenizer stays as it is; "
                     "alone, all trains it",
                     one_of({"none", "head", "all"}));
}

struct ModelOptions {
  std::string path;
  FoundationOptions foundation;
  std::map<std::string, EncoderOptions> encoders;
  std::map<std::string, DecoderOptions> decoders;
};

template <typename Visitor> void visit_fields(Visitor& v, ModelOptions& o) {
  v("path", o.path,
    "a whole model's directory (one of ours, or Hugging Face's); parts named below replace its "
    "own");
  v("foundation", o.foundation,
    "the language model; without one, a decoder's tokenizer is trained");
  v("encoders", o.encoders, "what reads media, by modality: image, audio");
  v("decoders", o.decoders, "what draws media, by modality: image");
}

}  // namespace veomni::model
