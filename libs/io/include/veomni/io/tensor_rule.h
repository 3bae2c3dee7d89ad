// SPDX-License-Identifier: Apache-2.0
/// How a model's parameters lie in a Hugging Face checkpoint: a table of rules, used both ways.
///
///     const std::vector<TensorRule> kRules = {
///         {.param = "embedding.weight",          .files = {"model.embed_tokens.weight"}},
///         {.param = "layers.{}.mlp.gate_up",     .files = {"model.layers.{}.mlp.gate_proj.weight",
///                                                          "model.layers.{}.mlp.up_proj.weight"},
///          .combine = Combine::kConcat},
///         {.param = "layers.{}.experts.gate_up", .files = {"model.layers.{}.mlp.experts.{e}.gate_proj.weight",
///                                                          "model.layers.{}.mlp.experts.{e}.up_proj.weight"},
///          .combine = Combine::kStackOfConcat},
///     };
///     const RuleSet rules(kRules, {"*.rotary_emb.inv_freq"});
///     const auto params = rules.resolve_all(model_parameters);   // left to right
///     check_complete(params, index, rules);
///     const ReadPlan plan = plan_read(params[0], index, my_shard);
///
/// Every rule joins file tensors end to end in row-major order, so a parameter is the concatenation of
/// its parts' bytes and each rank reads only its own. A rule that is not so is refused at registration.
/// Torch-free and pure: no function here opens a file but read_planned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "veomni/io/safetensors_index.h"
#include "veomni/io/shard_spec.h"

namespace veomni::io {

enum class Combine {
  kOnly,          ///< one file tensor
  kConcat,        ///< several, joined along dim 0:        [a + b + ..., ...]
  kStack,         ///< `{e}` = 0 .. E-1 on a new dim 0:    [E, ...]
  kStackOfConcat  ///< for each `{e}`, several joined:     [E, a + b + ..., ...]
};

/// One row: a parameter (or, with `{}`, one per layer) from one or several file tensors.
///
/// `{}` stands for a run of digits, the same in `param` and `files`, the first for the first.
/// `{e}` in `files` counts the experts; their number is the parameter's dim 0.
struct TensorRule {
  std::string param;
  std::vector<std::string> files;
  Combine combine = Combine::kOnly;
  /// kOnly: the file tensor's shape where it differs from the parameter's, elements kept in row-major order
  /// (a convolution kept as a linear map). One entry may be -1: what is left over.
  std::vector<int64_t> reshape = {};
  /// kConcat, kStackOfConcat: rows of each file tensor (fused q, k, v). Empty: equal parts.
  std::vector<int64_t> rows = {};
  /// The dim joined. Anything but 0 is refused: the parts would not be contiguous.
  int64_t dim = 0;
};

/// A parameter's name and full shape.
struct ParamShape {
  std::string name;
  std::vector<int64_t> shape;
};

/// One file tensor's place in a parameter: elements [begin, begin + num_elements(shape)).
struct FilePart {
  std::string tensor;
  std::vector<int64_t> shape;  ///< in the file
  int64_t begin = 0;
  bool operator==(const FilePart&) const = default;
};

/// A parameter and the file tensors it is made of, in order, without a gap. Saving and splitting a
/// gradient into `grad.<file tensor>` read the same list the other way round.
struct ParamParts {
  std::string param;
  std::vector<int64_t> shape;
  std::vector<FilePart> parts;
};

/// How the start of a file tensor's name in a part's own directory reads in a whole model's.
struct Lead {
  std::string own, whole;
};

/// A checked table of rules.
class RuleSet {
 public:
  /// @param ignored  file tensors that no rule needs to take, with * for any run of characters
  ///                 ("*.rotary_emb.inv_freq"; "lm_head.weight" where it is tied)
  /// @throws Error naming a malformed rule and what is wrong with it
  explicit RuleSet(std::vector<TensorRule> rules, std::vector<std::string> ignored = {});

  /// @throws Error if no rule or more than one takes the parameter, or its shape does not fit the rule
  ParamParts resolve(const ParamShape& param) const;

  /// All of a model's parameters. @throws Error also if two parameters take one file tensor
  std::vector<ParamParts> resolve_all(const std::vector<ParamShape>& params) const;

  bool ignores(std::string_view file_tensor) const;

  /// The same rules for a part inside a whole model's files: the start of every file name is replaced by the longest
  /// lead that fits ({"model.", "model.language_model."}; {"", "visual."} fits all). Every tensor that begins with none
  /// of the new leads is ignored: it belongs to another part.
  /// @throws Error naming a file tensor that no lead fits
  RuleSet under(const std::vector<Lead>& leads) const;

 private:
  std::vector<TensorRule> rules_;
  std::vector<std::string> ignored_;
  std::vector<std::string> only_under_;  // empty: everything
};

/// Every part is in the index with the shape the rule gives it, and no tensor of the index is left over.
/// @throws Error naming tensors and both shapes; all leftovers up to 10 of each side, in one message
void check_complete(const std::vector<ParamParts>& params, const SafetensorsIndex& index,
                    const RuleSet& rules);

/// Bytes of one file that go to one place in memory.
struct ByteRange {
  std::string file;
  uint64_t file_offset = 0, length = 0;
  uint64_t dest_offset = 0;  ///< in a buffer of the shard's elements in the file's dtype
  bool operator==(const ByteRange&) const = default;
};

/// What one rank reads for one parameter. Converting `dtype` is the caller's business.
struct ReadPlan {
  DType dtype = DType::F32;  ///< of the file tensors
  uint64_t bytes = 0;        ///< of the buffer: the shard's elements in that dtype
  std::vector<ByteRange> ranges;
};

/// The ranges in order of dest_offset; together they fill the buffer. Adjacent ones are joined.
/// @throws Error if a part is missing or has another shape, parts differ in dtype, or `mine` is a shard of
///         another shape than the parameter's (each message names both)
ReadPlan plan_read(const ParamParts& param, const SafetensorsIndex& index, const ShardSpec& mine);

/// Bytes of a shard that belong to one place in a file tensor.
struct WriteRange {
  std::string tensor;
  uint64_t tensor_offset = 0, length = 0;  ///< bytes, as SafetensorsWriter::write wants them
  uint64_t source_offset = 0;              ///< in the shard's buffer
  bool operator==(const WriteRange&) const = default;
};

/// The reverse of plan_read, for elements of `dtype`: with ShardSpec::whole, where each file tensor lies in
/// a full parameter. @throws Error if `mine` is a shard of another shape
std::vector<WriteRange> plan_write(const ParamParts& param, DType dtype, const ShardSpec& mine);

/// What a writer must declare to save a parameter in `dtype`.
std::vector<TensorDecl> declare(const ParamParts& param, DType dtype);

/// Fills `dest` (plan.bytes bytes) from the files.
/// @throws Error naming the file if it cannot be read or ends too early
void read_planned(const ReadPlan& plan, std::span<std::byte> dest);

}  // namespace veomni::io
