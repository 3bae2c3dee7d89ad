// SPDX-License-Identifier: Apache-2.0
#include "veomni/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "pieces.h"
#include "together.h"
#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/checkpoint/manifest.h"
#include "veomni/io/json_fields.h"
#include "veomni/io/output_file.h"

namespace veomni::checkpoint {

namespace fs = std::filesystem;

namespace {

std::string step_directory(const std::string& root, int64_t step) {
  return fmt::format("{}/step_{:08}", root, step);
}

// A whole tensor is the same on every rank: rank 0 writes it. Of equal copies of a part the first is written.
bool writes(const nn::Parameter& parameter, int rank) {
  return parameter.shard().is_sharded() ? parameter.replica() == 0 : rank == 0;
}

// Frozen parameters have no master: their compute copy is all there is.
const torch::Tensor& values_to_save(const nn::Parameter& parameter) {
  return parameter.master().defined() ? parameter.master() : parameter.local();
}

std::map<std::string, nn::Parameter> parameters_by_name(nn::Module& model) {
  std::map<std::string, nn::Parameter> by_name;
  for (const auto& [path, parameter] : model.named_parameters())
    by_name.emplace(parameter.name(), parameter);
  return by_name;
}

std::vector<Piece> collect(const TrainingState& state, int rank) {
  std::vector<Piece> pieces;
  const auto parameters = parameters_by_name(*state.model);
  const auto add = [&](const std::string& name, const nn::Parameter& parameter,
                       const torch::Tensor& local) {
    if (!writes(parameter, rank)) return;
    for (auto& piece : pieces_of(name, local, parameter.shard()))
      pieces.push_back(std::move(piece));
  };
  for (const auto& [name, parameter] : parameters)
    add("model." + name, parameter, values_to_save(parameter));
  if (!state.optimizer) return pieces;
  for (const auto& [kind, tensors] : state.optimizer->state()) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto& name = state.optimizer->params()[i].name;
      add("optim." + kind + "." + name, parameters.at(name), tensors[i]);
    }
  }
  return pieces;
}

void write_state(const std::string& directory, int64_t step, const TrainingState& state) {
  nlohmann::json json = state.extra;
  json["step"] = step;
  if (state.optimizer) json["optimizer_steps"] = state.optimizer->steps();
  io::write_file(directory + "/state.json", json.dump(1), {.fsync = true});
}

}  // namespace

void save(const std::string& root, int64_t step, const TrainingState& state, Communicator& world) {
  const std::string final_path = step_directory(root, step), written = final_path + ".tmp";
  const bool primary = world.rank() == 0;
  try {
    together(world, [&] {
      if (!primary) return;
      fs::remove_all(written);
      fs::create_directories(written);
    });
    together(world, [&] {
      write_pieces(fmt::format("{}/rank_{:05}", written, world.rank()),
                   collect(state, world.rank()));
    });
    together(world, [&] {
      if (!primary) return;
      write_state(written, step, state);
      write_manifest(written);
      io::sync_directory(written);
      fs::remove_all(final_path);
      fs::rename(written, final_path);
      io::sync_directory(root);
    });
  } catch (...) {
    std::error_code ignored;
    if (primary) fs::remove_all(written, ignored);
    throw;
  }
}

namespace {
// Step directories of `root`, newest first.
std::vector<std::string> step_directories(const std::string& root) {
  std::vector<std::string> found;
  if (!fs::is_directory(root)) return found;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name.starts_with("step_") && !name.ends_with(".tmp"))
      found.push_back(entry.path().string());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}
}  // namespace

std::optional<std::string> newest(const std::string& root) {
  for (const auto& directory : step_directories(root)) {
    try {
      check_manifest(directory, Check::kSizes);
      return directory;
    } catch (const Error& error) {
      log::warn("checkpoint passed over: {}", error.what());
    }
  }
  return std::nullopt;
}

nlohmann::json load(const std::string& directory, const TrainingState& state, Communicator& world) {
  nlohmann::json extra;
  together(world, [&] {
    if (world.rank() == 0) verify(directory);
  });
  together(world, [&] {
    torch::NoGradGuard no_grad;
    extra = io::read_json_file(directory + "/state.json");
    const PieceIndex index(directory);
    const auto parameters = parameters_by_name(*state.model);
    for (auto [name, parameter] : parameters) {
      parameter.assign_local(
          index.read("model." + name, parameter.shard(), nn::wide_dtype(parameter.dtype())));
    }
    if (!state.optimizer) return;
    for (auto& [kind, tensors] : state.optimizer->state()) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        const auto& param = state.optimizer->params()[i];
        tensors[i].copy_(index.read("optim." + kind + "." + param.name,
                                    parameters.at(param.name).shard(), tensors[i].scalar_type()));
      }
    }
    state.optimizer->set_steps(
        io::require_int(extra, "optimizer_steps", directory + "/state.json"));
  });
  return extra;
}

void verify(const std::string& directory) { check_manifest(directory, Check::kChecksums); }

void prune(const std::string& root, int64_t keep) {
  if (!fs::is_directory(root)) return;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.path().extension() == ".tmp") fs::remove_all(entry.path());
  }
  if (keep == 0) return;
  const auto directories = step_directories(root);
  for (size_t i = keep; i < directories.size(); ++i) fs::remove_all(directories[i]);
}

}  // namespace veomni::checkpoint
