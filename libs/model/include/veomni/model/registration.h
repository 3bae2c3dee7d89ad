// SPDX-License-Identifier: Apache-2.0
/// The one explicit list of what this build can make.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "veomni/model/decoder.h"
#include "veomni/model/encoder.h"
#include "veomni/model/foundation.h"

namespace veomni::model {

/// Where a part lies in a whole model's directory.
struct Within {
  std::string architecture;  ///< of the whole model's config.json
  std::string config;  ///< dotted key of the part's config in it: "thinker_config.audio_config"
  /// How its tensors are called there, an entry an exporter, newest first. The first whose first lead begins a name of
  /// the directory's files is taken.
  std::vector<std::vector<io::Lead>> leads;
};

/// One row of `veomni models`.
struct ModelEntry {
  std::string kind;                        ///< "foundation", "encoder", "decoder"
  std::string model_type;                  ///< config.json's model_type
  std::vector<std::string> architectures;  ///< config.json's architectures it answers to
  std::string summary;
  std::string modality;  ///< of encoders and decoders
  std::vector<Within> within = {};
  std::vector<std::string> other_types = {};  ///< model_types that are the same architecture
};

/// Everything registered, sorted by kind and name.
const std::vector<ModelEntry>& registered_models();

/// A part as a config.json describes it.
struct PartConfig {
  const ModelEntry* entry = nullptr;
  nlohmann::json config;  ///< the part's own
  const Within* within =
      nullptr;  ///< where it lies in a whole model's directory; null: the directory is its own
};

/// Finds a part in a config.json, its own or a whole model's: by `type` where it is given, else by `architectures`,
/// then by `model_type`.
/// @param where  the file, for error texts
/// @throws ConfigError that lists the known ones
PartConfig find_part(const std::string& kind, const std::string& modality, const std::string& type,
                     const nlohmann::json& config, const std::string& where);

/// The same without an opinion: none where the config describes no such part.
std::optional<PartConfig> look_for_part(const std::string& kind, const std::string& modality,
                                        const std::string& type, const nlohmann::json& config);

std::unique_ptr<Foundation> make_foundation(const PartConfig& part, const std::string& where,
                                            const nn::ParamOptions& options);
std::unique_ptr<Encoder> make_encoder(const PartConfig& part, const std::string& where,
                                      const nn::ParamOptions& options);
/// @param lm_width  the width its head gets when it is made anew; 0: no head (the tokenizer alone)
std::unique_ptr<Decoder> make_decoder(const PartConfig& part, const std::string& where,
                                      int64_t lm_width, const nn::ParamOptions& options);

}  // namespace veomni::model
