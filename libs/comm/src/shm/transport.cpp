// SPDX-License-Identifier: Apache-2.0
#include "shm/transport.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <numeric>

#include "lane.h"
#include "reduce.h"

namespace veomni::shm {

namespace {

// An all_reduce up to this many bytes is one step: every rank reduces all of it.
constexpr int64_t kReduceWholeBytes = 16 << 10;

}  // namespace

ShmTransport::ShmTransport(std::shared_ptr<Board> board, std::vector<int> members, int rank,
                           std::unique_ptr<Window> window)
    : Transport(std::move(members), rank), board_(std::move(board)), window_(std::move(window)) {}

const std::vector<Offer>& ShmTransport::meet(int64_t sequence, const Offer& mine,
                                             const OnArrival& seen, Patience& patience) {
  offers_.resize(size());
  offers_[rank()] = mine;
  window_->show(sequence, mine);
  window_->await_shown(sequence, patience, [&](int r) {
    offers_[r] = window_->offer_of(r, sequence);
    seen(r, offers_[r]);
  });
  return offers_;
}

void ShmTransport::move(const Call& call, const std::vector<Offer>& offers, Patience& patience) {
  switch (call.operation) {
    case Operation::kAllReduce: return all_reduce(call, patience);
    case Operation::kAllGather: return all_gather(call.outs, call.ins, patience);
    case Operation::kReduceScatter: return reduce_scatter(call, patience);
    case Operation::kAllToAll: return all_to_all(call, offers, patience);
    case Operation::kBroadcast: return broadcast(call, patience);
    case Operation::kBarrier:
    case Operation::kSplit: return;
  }
}

void ShmTransport::all_gather(const std::vector<torch::Tensor>& outs,
                              const std::vector<torch::Tensor>& ins, const Patience& patience) {
  Lane lane;
  for (const auto& in : ins) lane.add(static_cast<int64_t>(in.nbytes()));
  auto block = [&](size_t i, int r) {
    return bytes_at(outs[i], r * static_cast<int64_t>(ins[i].nbytes()));
  };
  const int64_t chunk = window_->slot_bytes();
  window_->pipeline(
      lane.chunks(chunk), patience,
      [&](int64_t s, int64_t g) {
        lane.parts(s, chunk, [&](const Lane::Part& part) {
          const char* from = bytes_at(ins[part.index], part.offset);
          copy_bytes(window_->slot(rank(), g) + part.at, from, part.bytes);
          copy_bytes(block(part.index, rank()) + part.offset, from, part.bytes);
        });
      },
      [&](int64_t s, int64_t g) {
        for (int k = 1; k < size(); ++k) {
          const int r = (rank() + k) % size();
          lane.parts(s, chunk, [&](const Lane::Part& part) {
            copy_bytes(block(part.index, r) + part.offset, window_->slot(r, g) + part.at,
                       part.bytes);
          });
        }
      });
}

void ShmTransport::reduce_scatter(const Call& call, const Patience& patience) {
  Lane lane;
  for (const auto& in : call.ins) lane.add(static_cast<int64_t>(in.nbytes()) / size());
  auto block = [&](size_t i, int r) {
    return bytes_at(call.ins[i], r * (static_cast<int64_t>(call.ins[i].nbytes()) / size()));
  };
  sources_.resize(size());
  const int64_t chunk = window_->lane_bytes();
  window_->pipeline(
      lane.chunks(chunk), patience,
      [&](int64_t s, int64_t g) {
        for (int r = 0; r < size(); ++r) {
          if (r == rank()) continue;
          lane.parts(s, chunk, [&](const Lane::Part& part) {
            copy_bytes(window_->lane(rank(), g, r) + part.at, block(part.index, r) + part.offset,
                       part.bytes);
          });
        }
      },
      [&](int64_t s, int64_t g) {
        lane.parts(s, chunk, [&](const Lane::Part& part) {
          const auto& in = call.ins[part.index];
          const auto& out = call.outs[part.index];
          for (int r = 0; r < size(); ++r) {
            sources_[r] = r == rank() ? block(part.index, r) + part.offset
                                      : window_->lane(r, g, rank()) + part.at;
          }
          const int64_t numel = part.bytes / in.element_size();
          reduce_buffers(bytes_at(out, part.offset / in.element_size() * out.element_size()),
                         out.scalar_type(), sources_, in.scalar_type(), numel, call.reduce);
        });
      });
}

void ShmTransport::all_reduce(const Call& call, const Patience& patience) {
  if (static_cast<int64_t>(call.ins[0].nbytes()) <= kReduceWholeBytes)
    return reduce_whole(call, patience);
  reduce_stretches(call, patience);
  gather_stretches(call.outs[0], patience);
}

void ShmTransport::reduce_whole(const Call& call, const Patience& patience) {
  const auto& in = call.ins[0];
  const auto& out = call.outs[0];
  if (in.numel() == 0) return;
  sources_.resize(size());
  window_->pipeline(
      1, patience,
      [&](int64_t, int64_t g) {
        copy_bytes(window_->slot(rank(), g), in.data_ptr(), static_cast<int64_t>(in.nbytes()));
      },
      [&](int64_t, int64_t g) {
        for (int r = 0; r < size(); ++r) sources_[r] = window_->slot(r, g);
        reduce_buffers(out.data_ptr(), out.scalar_type(), sources_, in.scalar_type(), in.numel(),
                       call.reduce);
      });
}

/// Afterwards each rank's `out` holds the result in its own stretch.
void ShmTransport::reduce_stretches(const Call& call, const Patience& patience) {
  const auto& in = call.ins[0];
  const auto& out = call.outs[0];
  const int64_t unit = in.element_size(), chunk = window_->lane_bytes();
  auto bytes_of = [&](int r) {
    const auto stretch = stretch_of(in.numel(), r, size());
    return (stretch.end - stretch.begin) * unit;
  };
  auto begin_of = [&](int r) { return stretch_of(in.numel(), r, size()).begin; };
  const int64_t longest = (in.numel() + size() - 1) / size() * unit;
  sources_.resize(size());
  window_->pipeline(
      chunks_of(longest, chunk), patience,
      [&](int64_t s, int64_t g) {
        for (int r = 0; r < size(); ++r) {
          if (r == rank()) continue;
          const Cut part = cut(bytes_of(r), s, chunk);
          copy_bytes(window_->lane(rank(), g, r), bytes_at(in, begin_of(r) * unit + part.begin),
                     part.bytes);
        }
      },
      [&](int64_t s, int64_t g) {
        const Cut part = cut(bytes_of(rank()), s, chunk);
        if (part.bytes == 0) return;
        const int64_t at = begin_of(rank()) + part.begin / unit;
        for (int r = 0; r < size(); ++r) {
          sources_[r] = r == rank() ? bytes_at(in, at * unit) : window_->lane(r, g, rank());
        }
        reduce_buffers(bytes_at(out, at * out.element_size()), out.scalar_type(), sources_,
                       in.scalar_type(), part.bytes / unit, call.reduce);
      });
}

void ShmTransport::gather_stretches(const torch::Tensor& out, const Patience& patience) {
  const int64_t unit = out.element_size(), chunk = window_->slot_bytes();
  auto part_of = [&](int r, int64_t s) {
    const auto stretch = stretch_of(out.numel(), r, size());
    Cut part = cut((stretch.end - stretch.begin) * unit, s, chunk);
    part.begin += stretch.begin * unit;
    return part;
  };
  const int64_t longest = (out.numel() + size() - 1) / size() * unit;
  window_->pipeline(
      chunks_of(longest, chunk), patience,
      [&](int64_t s, int64_t g) {
        const Cut part = part_of(rank(), s);
        copy_bytes(window_->slot(rank(), g), bytes_at(out, part.begin), part.bytes);
      },
      [&](int64_t s, int64_t g) {
        for (int k = 1; k < size(); ++k) {
          const int r = (rank() + k) % size();
          const Cut part = part_of(r, s);
          copy_bytes(bytes_at(out, part.begin), window_->slot(r, g), part.bytes);
        }
      });
}

void ShmTransport::all_to_all(const Call& call, const std::vector<Offer>& offers,
                              const Patience& patience) {
  const int64_t row = row_bytes(call.ins[0]), chunk = window_->lane_bytes();
  int64_t most = 0;
  for (int from = 0; from < size(); ++from) {
    for (int to = 0; to < size(); ++to) {
      if (to != from) most = std::max(most, offers[from].in_splits[to]);
    }
  }
  const auto& mine = offers[rank()];
  auto out_block = [&](int r) {
    return bytes_at(call.outs[0], sum_before(mine.out_splits, r) * row);
  };
  auto in_block = [&](int r) { return bytes_at(call.ins[0], sum_before(mine.in_splits, r) * row); };
  if (call.ins[0].numel())
    copy_bytes(out_block(rank()), in_block(rank()), mine.in_splits[rank()] * row);
  window_->pipeline(
      chunks_of(most * row, chunk), patience,
      [&](int64_t s, int64_t g) {
        for (int r = 0; r < size(); ++r) {
          const Cut part = cut(mine.in_splits[r] * row, s, chunk);
          if (r == rank() || part.bytes == 0) continue;
          copy_bytes(window_->lane(rank(), g, r), in_block(r) + part.begin, part.bytes);
        }
      },
      [&](int64_t s, int64_t g) {
        for (int k = 1; k < size(); ++k) {
          const int r = (rank() + k) % size();
          const Cut part = cut(mine.out_splits[r] * row, s, chunk);
          if (part.bytes == 0) continue;
          copy_bytes(out_block(r) + part.begin, window_->lane(r, g, rank()), part.bytes);
        }
      });
}

void ShmTransport::broadcast(const Call& call, const Patience& patience) {
  const auto& tensor = call.outs[0];
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  const int64_t chunk = window_->slot_bytes();
  const bool sends = call.root == rank();
  window_->pipeline(
      chunks_of(bytes, chunk), patience,
      [&](int64_t s, int64_t g) {
        const Cut part = cut(bytes, s, chunk);
        if (sends) copy_bytes(window_->slot(rank(), g), bytes_at(tensor, part.begin), part.bytes);
      },
      [&](int64_t s, int64_t g) {
        const Cut part = cut(bytes, s, chunk);
        if (!sends)
          copy_bytes(bytes_at(tensor, part.begin), window_->slot(call.root, g), part.bytes);
      });
}

std::shared_ptr<process::Transport> ShmTransport::split(const std::vector<int>& places,
                                                        const std::string& id, Patience& patience) {
  auto [ranks, place] = part_of(places);
  std::unique_ptr<Window> window;
  if (ranks.size() > 1) {
    // Ids grow with nesting, file names may not.
    char name[32];
    std::snprintf(name, sizeof name, ".%016" PRIx64,
                  static_cast<uint64_t>(std::hash<std::string>()(id)));
    window = std::make_unique<Window>(board_, board_->name() + name, ranks, place,
                                      static_cast<int>(ranks.size()), &patience,
                                      process::Clock::time_point::max());
  }
  return std::make_shared<ShmTransport>(board_, ranks, place, std::move(window));
}

}  // namespace veomni::shm
