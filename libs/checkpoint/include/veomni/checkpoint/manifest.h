// SPDX-License-Identifier: Apache-2.0
/// `manifest.json`: the size and checksum of every file of a checkpoint, and its own.
#pragma once

#include <string>

namespace veomni::checkpoint {

/// Sums every file of `directory` and writes its manifest. @throws veomni::Error naming the file
void write_manifest(const std::string& directory);

enum class Check { kSizes, kChecksums };

/// @throws veomni::Error naming the file that is missing, of another size or (kChecksums) of other content
void check_manifest(const std::string& directory, Check check);

}  // namespace veomni::checkpoint
