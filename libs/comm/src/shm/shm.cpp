// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/shm.h"

#include "process/group.h"
#include "shm/transport.h"

namespace veomni {

namespace {

void check_options(const ShmOptions& options) {
  VEOMNI_CHECK_CONFIG(options.size >= 1 && options.rank >= 0 && options.rank < options.size,
                      "shm: rank ", options.rank, " of ", options.size, " cannot be");
  const std::string allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  VEOMNI_CHECK_CONFIG(!options.name.empty() && options.name.size() <= 128 &&
                          options.name.find_first_not_of(allowed) == std::string::npos,
                      "shm: '", options.name,
                      "' cannot name a job; take letters, digits, '_', '-', '.', at most 128");
}

}  // namespace

std::shared_ptr<Communicator> make_shm_world(const ShmOptions& options) {
  check_options(options);
  const auto deadline = process::Clock::now() + options.start_timeout;
  std::vector<int> members(options.size);
  for (int r = 0; r < options.size; ++r) members[r] = r;
  auto board =
      std::make_shared<shm::Board>(options.name, options.rank, options.size, members, deadline);
  std::unique_ptr<shm::Window> window;
  if (options.size > 1) {
    window = std::make_unique<shm::Window>(board, options.name + ".world", members, options.rank,
                                           options.size, nullptr, deadline);
  }
  auto transport =
      std::make_shared<shm::ShmTransport>(board, members, options.rank, std::move(window));
  return process::make_group_communicator(board, std::move(transport), options.timeout);
}

}  // namespace veomni
