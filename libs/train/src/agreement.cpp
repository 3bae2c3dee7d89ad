// SPDX-License-Identifier: Apache-2.0
#include "agreement.h"

#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <torch/version.h>

#include <array>
#include <cstring>

#include "veomni/base/error.h"
#include "veomni/io/digest.h"

namespace veomni::train {

namespace {

constexpr size_t kWidth = 64;

struct Item {
  const char* what;
  const char* cure;
};
constexpr std::array<Item, 3> kItems{{
    {"another build of veomni", "copy one program to every host"},
    {"another libtorch", "install the same version on every host"},
    {"another job", "give every rank the same recipe, arguments and input"},
}};
// A line of kWidth characters for each item, padded with zeros.
using Card = std::array<char, kItems.size() * kWidth>;

Card card_of(const std::string& job) {
  Card card{};
  const std::string lines[] = {build_id(), TORCH_VERSION, io::digest(job.data(), job.size())};
  for (size_t i = 0; i < kItems.size(); ++i) lines[i].copy(card.data() + i * kWidth, kWidth - 1);
  return card;
}

// "rank 2", "ranks 1, 3 and 5 more".
std::string name_ranks(const std::vector<int>& ranks) {
  constexpr size_t kNamed = 8;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(ranks.size(), kNamed); ++i)
    text += (i ? ", " : "") + std::to_string(ranks[i]);
  if (ranks.size() > kNamed) text += fmt::format(" and {} more", ranks.size() - kNamed);
  return text;
}

}  // namespace

std::string build_id() {
  std::string id;
  // The program itself comes first.
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_NOTE) continue;
          const char* at = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
          const char* end = at + header.p_memsz;
          while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            std::memcpy(&note, at, sizeof(note));
            const auto padded = [](size_t size) { return (size + 3) / 4 * 4; };
            const char* body = at + sizeof(note) + padded(note.n_namesz);
            if (note.n_type == NT_GNU_BUILD_ID) {
              for (size_t b = 0; b < note.n_descsz; ++b)
                *static_cast<std::string*>(out) +=
                    fmt::format("{:02x}", static_cast<unsigned char>(body[b]));
              return 1;
            }
            at = body + padded(note.n_descsz);
          }
        }
        return 1;
      },
      &id);
  return id;
}

void check_agreement(Communicator& world, const std::string& job) {
  const int size = world.size();
  if (size == 1) return;
  const Card own = card_of(job);
  auto mine = torch::empty({static_cast<int64_t>(own.size())}, torch::kUInt8);
  std::memcpy(mine.data_ptr(), own.data(), own.size());
  auto all = torch::empty({static_cast<int64_t>(own.size()) * size}, torch::kUInt8);
  world.all_gather(all, mine)->wait();
  const auto* cards = static_cast<const char*>(all.const_data_ptr());
  const auto line = [&](int rank, size_t item) {
    return cards + static_cast<size_t>(rank) * own.size() + item * kWidth;
  };
  for (size_t item = 0; item < kItems.size(); ++item) {
    std::vector<int> differ;
    for (int rank = 1; rank < size; ++rank) {
      if (std::memcmp(line(rank, item), line(0, item), kWidth) != 0) differ.push_back(rank);
    }
    VEOMNI_CHECK_CONFIG(differ.empty(), name_ranks(differ), differ.size() == 1 ? " runs " : " run ",
                        kItems[item].what, " than rank 0 (",
                        line(differ.empty() ? 0 : differ[0], item), " against ", line(0, item),
                        "); ", kItems[item].cure);
  }
}

}  // namespace veomni::train
