// SPDX-License-Identifier: Apache-2.0
/// The readers and writers of `io` as a program, so that Python tests can hold them against the
/// reference packages (tests/io, tests/fuzz).
///
///   io_tool check FILE...                        a line a file, "accept" or "refuse: <why>"; exit code 1 if any is refused
///   io_tool rewrite IN OUT_DIR MAX_SHARD_BYTES   safetensors to safetensors
///   io_tool tokenizer IN OUT                     tokenizer.json to tokenizer.json
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "veomni/base/error.h"
#include "veomni/io/safetensors_index.h"
#include "veomni/io/tokenizer_json.h"

namespace veomni::io {
namespace {

int check(int count, char** files) {
  int refused = 0;
  for (int i = 0; i < count; ++i) {
    try {
      const SafetensorsFile file(files[i]);
      std::printf("accept\n");
    } catch (const Error& error) {
      std::printf("refuse: %s\n", error.what());
      refused = 1;
    }
  }
  return refused;
}

int rewrite(const char* in, const char* out_dir, const char* max_shard_bytes) {
  const SafetensorsFile file(in);
  std::vector<TensorDecl> tensors;
  for (const TensorInfo& tensor : file.header().tensors) {
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  ShardedSafetensorsWriter writer(out_dir, tensors, file.metadata(),
                                  std::strtoull(max_shard_bytes, nullptr, 10));
  for (const TensorDecl& tensor : tensors)
    writer.write(tensor.name, file.tensor(tensor.name).bytes);
  writer.finish();
  return 0;
}

int run(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "check") return check(argc - 2, argv + 2);
  if (command == "rewrite" && argc == 5) return rewrite(argv[2], argv[3], argv[4]);
  if (command == "tokenizer" && argc == 4) {
    write_file(argv[3], write_tokenizer_json(read_tokenizer_json(argv[2])));
    return 0;
  }
  std::fprintf(
      stderr,
      "usage: io_tool check FILE... | rewrite IN OUT_DIR MAX_SHARD_BYTES | tokenizer IN OUT\n");
  return 2;
}

}  // namespace
}  // namespace veomni::io

int main(int argc, char** argv) {
  try {
    return veomni::io::run(argc, argv);
  } catch (const veomni::Error& error) {
    std::fprintf(stderr, "io_tool: %s\n", error.what());
    return 2;
  }
}
