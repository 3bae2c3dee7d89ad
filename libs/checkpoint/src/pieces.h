// SPDX-License-Identifier: Apache-2.0
/// A tensor's rows, in whichever files they lie.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "veomni/io/safetensors.h"
#include "veomni/io/shard_spec.h"

namespace veomni::checkpoint {

/// What one rank writes of one tensor.
struct Piece {
  std::string name;
  torch::Tensor rows;     ///< contiguous, CPU
  int64_t first_row = 0;  ///< along dim 0 of the full tensor
};

/// Writes a rank's pieces as one safetensors file with DCP's placement metadata.
void write_pieces(const std::string& path, const std::vector<Piece>& pieces);

/// All pieces of a checkpoint directory, by tensor.
class PieceIndex {
 public:
  explicit PieceIndex(const std::string& directory);
  bool has(const std::string& name) const { return pieces_.count(name) > 0; }
  /// Rows `shard` of a tensor. @throws veomni::Error if the pieces do not cover them or do not fit
  torch::Tensor read(const std::string& name, const io::ShardSpec& shard,
                     torch::ScalarType dtype) const;

 private:
  struct Place {
    const io::SafetensorsFile* file;
    int64_t first_row;
  };
  std::string directory_;
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::map<std::string, std::vector<Place>> pieces_;
};

}  // namespace veomni::checkpoint
