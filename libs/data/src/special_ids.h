// SPDX-License-Identifier: Apache-2.0
/// The ids with a role, from the files beside tokenizer.json.
#pragma once

#include <string>

#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// bos, eos, pad from tokenizer_config.json (bos_token, … : a string or an object with "content"); where
/// that has none, from generation_config.json (…_token_id: a number or a list, its first); where both
/// have none, eos is the special token `<|endoftext|>` if the tokenizer has it. Missing files are fine.
/// @throws Error for a file that is not JSON or names a token the tokenizer lacks.
SpecialIds read_special_ids(const std::string& directory, const io::TokenizerSpec& spec);

/// What a spec alone tells: eos = `<|endoftext|>`.
SpecialIds default_special_ids(const io::TokenizerSpec& spec);

}  // namespace veomni::data
