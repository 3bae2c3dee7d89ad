// SPDX-License-Identifier: Apache-2.0
#include "veomni/checkpoint/hf_export.h"

#include <filesystem>

#include "together.h"
#include "veomni/base/error.h"
#include "veomni/io/output_file.h"
#include "veomni/io/safetensors_index.h"
#include "veomni/nn/dtype.h"
#include "veomni/nn/materialize.h"

namespace veomni::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMaxShardBytes = 5'000'000'000;

void write_small_files(const std::string& directory, const HfFolder& folder,
                       torch::ScalarType dtype) {
  fs::create_directories(directory);
  nlohmann::json config = folder.config;
  if (!folder.parts.empty()) {
    config.erase("torch_dtype");
    config["dtype"] = nn::dtype_word(dtype);
  }
  io::write_file(directory + "/config.json", config.dump(2) + "\n", {.fsync = true});
  if (!folder.preprocessor.empty()) {
    io::write_file(directory + "/preprocessor_config.json", folder.preprocessor.dump(2) + "\n",
                   {.fsync = true});
  }
  for (const auto& file : folder.extra_files) {
    fs::copy_file(file, directory + "/" + fs::path(file).filename().string(),
                  fs::copy_options::overwrite_existing);
  }
}

std::unique_ptr<io::ShardedSafetensorsWriter> open_writer(const std::string& directory,
                                                          const HfFolder& folder,
                                                          torch::ScalarType dtype) {
  if (folder.parts.empty()) return nullptr;
  std::vector<io::TensorDecl> tensors;
  for (const auto& part : folder.parts) {
    for (const auto& param : part.rules.resolve_all(nn::param_shapes(*part.module))) {
      for (auto& tensor : io::declare(param, nn::io_dtype(dtype)))
        tensors.push_back(std::move(tensor));
    }
  }
  return std::make_unique<io::ShardedSafetensorsWriter>(
      directory, tensors, io::Metadata{{"format", "pt"}}, kMaxShardBytes,
      io::WriteOptions{.fsync = true});
}

// Rank 0 writes what all ranks gather. A problem is kept until all have: one that stopped early would hang the others.
void write_folder(const std::string& directory, const HfFolder& folder, torch::ScalarType dtype,
                  const GatherFull& gather, Communicator& world) {
  std::unique_ptr<io::ShardedSafetensorsWriter> writer;
  together(world, [&] {
    if (world.rank() != 0) return;
    write_small_files(directory, folder, dtype);
    writer = open_writer(directory, folder, dtype);
  });
  std::string problem;
  const auto write = [&](const std::string& name, const torch::Tensor& tensor) {
    if (!problem.empty()) return;
    try {
      writer->write(name, nn::tensor_bytes(tensor));
    } catch (const std::exception& error) {
      problem = error.what();
    }
  };
  for (const auto& part : folder.parts) for_each_file_tensor(part, dtype, gather, world, write);
  together(world, [&] {
    if (world.rank() != 0) return;
    VEOMNI_CHECK(problem.empty(), problem);
    if (writer) writer->finish();
  });
}

}  // namespace

void for_each_file_tensor(
    const HfPart& part, torch::ScalarType dtype, const GatherFull& gather, Communicator& world,
    const std::function<void(const std::string&, const torch::Tensor&)>& take) {
  const auto parameters = part.module->named_parameters();
  const auto resolved = part.rules.resolve_all(nn::param_shapes(*part.module));
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto full = gather(parameters[i].second, world).to(dtype).contiguous().flatten();
    if (world.rank() != 0) continue;
    for (const auto& file : resolved[i].parts) {
      take(file.tensor, full.narrow(0, file.begin, io::num_elements(file.shape)).view(file.shape));
    }
  }
}

void export_hf(const std::string& directory, const std::vector<HfFolder>& folders,
               torch::ScalarType dtype, const GatherFull& gather, Communicator& world) {
  const std::string written = directory + ".tmp";
  together(world, [&] {
    if (world.rank() == 0) fs::remove_all(written);
  });
  for (const auto& folder : folders) {
    write_folder(folder.directory.empty() ? written : written + "/" + folder.directory, folder,
                 dtype, gather, world);
  }
  together(world, [&] {
    if (world.rank() != 0) return;
    fs::remove_all(directory);
    fs::rename(written, directory);
  });
}

}  // namespace veomni::checkpoint
