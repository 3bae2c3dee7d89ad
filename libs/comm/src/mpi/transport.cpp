// SPDX-License-Identifier: Apache-2.0
#include "mpi/transport.h"

#include <algorithm>

#include "lane.h"
#include "process/header.h"
#include "reduce.h"

namespace veomni::mpi {

namespace {

// Tags below are MpiJob's; the standard promises 32767.
constexpr int kFirstTag = 16, kTags = 32000;
// Of a peer's block in flight: two of them are, while a third is reduced.
constexpr int64_t kChunkBytes = 512 << 10;
// An all_reduce up to this many bytes is one round: every rank reduces all of it.
constexpr int64_t kReduceWholeBytes = 16 << 10;

/// Keeps for ever what MPI may still touch.
template <typename... T> void abandon(T&&... things) {
  (static_cast<void>(new auto(std::forward<T>(things))), ...);
}

}  // namespace

MpiTransport::MpiTransport(std::shared_ptr<MpiJob> job, std::vector<int> members, int rank,
                           const std::string& id)
    : Transport(std::move(members), rank),
      job_(std::move(job)),
      tag_(kFirstTag + static_cast<int>(std::hash<std::string>()(id) % kTags)),
      arrived_(new std::atomic<int64_t>[size()]) {
  for (int r = 0; r < size(); ++r) arrived_[r] = 0;
}

/// `peer` is whom the messages are from and to.
void MpiTransport::finish(Messages& messages, const Patience& patience, int peer) {
  for (int tries = 1; !messages.test(); ++tries) {
    give_way(tries);
    if (tries % 16 != 0) continue;
    patience.check();
    try {
      job_->check_peer(members()[peer]);
    } catch (const process::PeerGone&) {
      // What it sent before it went may still be on the way.
      const auto give_up = process::Clock::now() + std::chrono::milliseconds(200);
      while (!messages.test()) {
        if (process::Clock::now() > give_up) throw;
      }
      return;
    }
  }
}

void MpiTransport::exchange(const std::vector<char>& mine, std::vector<std::vector<char>>& all,
                            const std::function<void(int rank)>& here, const Patience& patience) {
  const auto bytes = static_cast<int64_t>(mine.size());
  all.resize(size());
  all[rank()] = mine;
  std::vector<Messages> from(size());
  Messages sent;
  try {
    std::vector<int> missing;
    for (int k = 1; k < size(); ++k) {
      const int r = (rank() + k) % size();
      all[r].resize(mine.size());
      from[r].receive(job_->comm(), members()[r], tag_, all[r].data(), bytes);
      sent.send(job_->comm(), members()[r], tag_, all[rank()].data(), bytes);
      missing.push_back(r);
    }
    for (int tries = 1; !missing.empty(); ++tries) {
      auto came = [&](int r) {
        if (!from[r].test()) return false;
        here(r);
        return true;
      };
      missing.erase(std::remove_if(missing.begin(), missing.end(), came), missing.end());
      if (missing.empty()) break;
      give_way(tries);
      if (tries % 16 != 0) continue;
      patience.check();
      Messages& first = from[missing.front()];
      if (tries % 1024 == 0 && !first.test()) job_->check_peer(members()[missing.front()]);
    }
    for (int tries = 1; !sent.test(); ++tries) {
      give_way(tries);
      patience.check();
    }
  } catch (...) {
    abandon(std::move(all));
    all.clear();
    throw;
  }
}

const std::vector<Offer>& MpiTransport::meet(int64_t sequence, const Offer& mine,
                                             const OnArrival& seen, Patience& patience) {
  offers_.resize(size());
  offers_[rank()] = mine;
  std::vector<char> header(process::header_bytes(size()));
  process::write_header(header.data(), mine, size());
  exchange(
      header, headers_,
      [&](int r) {
        arrived_[r].store(sequence + 1, std::memory_order_release);
        offers_[r] = process::read_header(headers_[r].data(), size());
        seen(r, offers_[r]);
      },
      patience);
  return offers_;
}

void MpiTransport::move(const Call& call, const std::vector<Offer>& offers, Patience& patience) {
  try {
    switch (call.operation) {
      case Operation::kAllReduce: return all_reduce(call, patience);
      case Operation::kAllGather: return all_gather(call, patience);
      case Operation::kReduceScatter: return reduce_scatter(call, patience);
      case Operation::kAllToAll: return all_to_all(call, offers, patience);
      case Operation::kBroadcast: return broadcast(call, patience);
      case Operation::kBarrier:
      case Operation::kSplit: return;
    }
  } catch (...) {
    abandon(call, std::move(scratch_));
    scratch_.clear();
    throw;
  }
}

/// Sends sends[r] to r and receives receives[r] from r, a pair of peers at a time.
void MpiTransport::swap(const std::vector<Pieces>& sends, const std::vector<Pieces>& receives,
                        const Patience& patience) {
  for (int k = 1; k < size(); ++k) {
    const int to = (rank() + k) % size(), from = (rank() - k + size()) % size();
    Messages in, out;
    for (const Piece& piece : receives[from])
      in.receive(job_->comm(), members()[from], tag_, piece.data, piece.bytes);
    for (const Piece& piece : sends[to])
      out.send(job_->comm(), members()[to], tag_, piece.data, piece.bytes);
    finish(in, patience, from);
    finish(out, patience, to);
  }
}

void MpiTransport::reduce(const Reduction& reduction, const Patience& patience) {
  std::vector<Lane> lanes(size());
  int64_t longest = 0;
  for (int r = 0; r < size(); ++r) {
    for (size_t i = 0; i < reduction.items; ++i) lanes[r].add(reduction.bytes(i, r));
    longest = std::max(longest, lanes[r].bytes());
  }
  const int64_t chunk = std::min(kChunkBytes, longest);
  const int64_t rounds = chunk ? chunks_of(longest, chunk) : 0;
  scratch_.resize(static_cast<size_t>(2 * size() * chunk) + 64);
  // Aligned for every element type.
  char* base = scratch_.data() + (64 - reinterpret_cast<uintptr_t>(scratch_.data()) % 64) % 64;
  auto place = [&](int64_t s, int r) { return base + ((s % 2) * size() + r) * chunk; };
  std::vector<Messages> messages(2 * size());
  auto start = [&](int64_t s) {
    for (int k = 1; k < size(); ++k) {
      const int to = (rank() + k) % size(), from = (rank() - k + size()) % size();
      lanes[rank()].parts(s, chunk, [&](const Lane::Part& part) {
        messages[(s % 2) * size() + from].receive(job_->comm(), members()[from], tag_,
                                                  place(s, from) + part.at, part.bytes);
      });
      lanes[to].parts(s, chunk, [&](const Lane::Part& part) {
        messages[(s % 2) * size() + to].send(job_->comm(), members()[to], tag_,
                                             reduction.in(part.index, to) + part.offset,
                                             part.bytes);
      });
    }
  };
  std::vector<const void*> sources(size());
  for (int64_t s = 0; s <= rounds; ++s) {
    if (s < rounds) start(s);
    if (s == 0) continue;
    for (int r = 0; r < size(); ++r) finish(messages[((s - 1) % 2) * size() + r], patience, r);
    lanes[rank()].parts(s - 1, chunk, [&](const Lane::Part& part) {
      const auto [in_dtype, out_dtype] = reduction.dtypes(part.index);
      const auto unit = static_cast<int64_t>(c10::elementSize(in_dtype));
      for (int r = 0; r < size(); ++r) {
        sources[r] =
            r == rank() ? reduction.in(part.index, r) + part.offset : place(s - 1, r) + part.at;
      }
      reduce_buffers(reduction.out(part.index) +
                         part.offset / unit * static_cast<int64_t>(c10::elementSize(out_dtype)),
                     out_dtype, sources, in_dtype, part.bytes / unit, reduction.op);
    });
  }
}

void MpiTransport::all_gather(const Call& call, const Patience& patience) {
  std::vector<Pieces> sends(size()), receives(size());
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto bytes = static_cast<int64_t>(call.ins[i].nbytes());
    if (bytes == 0) continue;
    char* mine = bytes_at(call.ins[i], 0);
    for (int r = 0; r < size(); ++r) {
      sends[r].push_back({mine, bytes});
      receives[r].push_back({bytes_at(call.outs[i], r * bytes), bytes});
    }
    copy_bytes(bytes_at(call.outs[i], rank() * bytes), mine, bytes);
  }
  swap(sends, receives, patience);
}

void MpiTransport::reduce_scatter(const Call& call, const Patience& patience) {
  auto block = [&](size_t i) { return static_cast<int64_t>(call.ins[i].nbytes()) / size(); };
  reduce({.items = call.ins.size(),
          .bytes = [&](size_t i, int) { return block(i); },
          .in = [&](size_t i, int r) { return bytes_at(call.ins[i], r * block(i)); },
          .out = [&](size_t i) { return bytes_at(call.outs[i], 0); },
          .dtypes =
              [&](size_t i) {
                return std::pair(call.ins[i].scalar_type(), call.outs[i].scalar_type());
              },
          .op = call.reduce},
         patience);
}

void MpiTransport::all_reduce(const Call& call, const Patience& patience) {
  const auto& in = call.ins[0];
  const auto& out = call.outs[0];
  const bool whole = static_cast<int64_t>(in.nbytes()) <= kReduceWholeBytes;
  auto stretch = [&](int r) {
    return whole ? Stretch{0, in.numel()} : stretch_of(in.numel(), r, size());
  };
  auto length = [&](int r) { return stretch(r).end - stretch(r).begin; };
  reduce({.items = 1,
          .bytes = [&](size_t, int r) { return length(r) * in.element_size(); },
          .in = [&](size_t, int r) { return bytes_at(in, stretch(r).begin * in.element_size()); },
          .out = [&](size_t) { return bytes_at(out, stretch(rank()).begin * out.element_size()); },
          .dtypes = [&](size_t) { return std::pair(in.scalar_type(), out.scalar_type()); },
          .op = call.reduce},
         patience);
  if (whole) return;
  std::vector<Pieces> sends(size()), receives(size());
  auto piece = [&](int r) {
    const int64_t unit = out.element_size();
    return Piece{bytes_at(out, stretch(r).begin * unit), length(r) * unit};
  };
  for (int r = 0; r < size(); ++r) {
    sends[r].push_back(piece(rank()));
    receives[r].push_back(piece(r));
  }
  swap(sends, receives, patience);
}

void MpiTransport::all_to_all(const Call& call, const std::vector<Offer>& offers,
                              const Patience& patience) {
  const int64_t row = row_bytes(call.ins[0]);
  const Offer& mine = offers[rank()];
  std::vector<Pieces> sends(size()), receives(size());
  for (int r = 0; r < size(); ++r) {
    if (mine.in_splits[r] > 0 && row > 0)
      sends[r].push_back(
          {bytes_at(call.ins[0], sum_before(mine.in_splits, r) * row), mine.in_splits[r] * row});
    if (mine.out_splits[r] > 0 && row > 0)
      receives[r].push_back(
          {bytes_at(call.outs[0], sum_before(mine.out_splits, r) * row), mine.out_splits[r] * row});
  }
  if (!sends[rank()].empty())
    copy_bytes(receives[rank()][0].data, sends[rank()][0].data, sends[rank()][0].bytes);
  swap(sends, receives, patience);
}

void MpiTransport::broadcast(const Call& call, const Patience& patience) {
  const auto bytes = static_cast<int64_t>(call.outs[0].nbytes());
  if (bytes == 0) return;
  std::vector<Pieces> sends(size()), receives(size());
  const Piece piece{bytes_at(call.outs[0], 0), bytes};
  if (call.root == rank()) {
    for (auto& pieces : sends) pieces.push_back(piece);
  } else {
    receives[call.root].push_back(piece);
  }
  swap(sends, receives, patience);
}

std::shared_ptr<process::Transport> MpiTransport::split(const std::vector<int>& places,
                                                        const std::string& id, Patience&) {
  auto [ranks, place] = part_of(places);
  return std::make_shared<MpiTransport>(job_, std::move(ranks), place, id);
}

}  // namespace veomni::mpi
