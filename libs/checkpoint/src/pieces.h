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

/// A box of a tensor that one rank writes.
struct Piece {
  std::string name;
  torch::Tensor values;          ///< the box's shape, contiguous, CPU
  std::vector<int64_t> offsets;  ///< of the box in the full tensor
};

/// `local` (of the shard's local shape) as boxes.
std::vector<Piece> pieces_of(const std::string& name, const torch::Tensor& local,
                             const io::ShardSpec& shard);

/// Writes a rank's pieces as safetensors files with DCP's placement metadata: `<stem>.safetensors`,
/// always, and for tensors of several pieces `<stem>_part_1.safetensors` and so on, since a file
/// holds a name once.
void write_pieces(const std::string& stem, const std::vector<Piece>& pieces);

/// All pieces of a checkpoint directory, by tensor.
class PieceIndex {
 public:
  explicit PieceIndex(const std::string& directory);
  bool has(const std::string& name) const { return pieces_.count(name) > 0; }
  /// The part `shard` of a tensor, of its local shape, put together from whatever pieces were
  /// written. @throws veomni::Error if they do not cover it or do not fit
  torch::Tensor read(const std::string& name, const io::ShardSpec& shard,
                     torch::ScalarType dtype) const;

 private:
  struct Place {
    const io::SafetensorsFile* file;
    std::vector<int64_t> offsets;
  };
  io::ShardSpec box_of(const std::string& name, const Place& place,
                       const io::ShardSpec& shard) const;

  std::string directory_;
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::map<std::string, std::vector<Place>> pieces_;
};

}  // namespace veomni::checkpoint
