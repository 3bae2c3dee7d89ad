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
// Below it one pass through the slots costs less than asking where inputs lie.
constexpr int64_t kAskBytes = 64 << 10;

/// What of a block of `bytes` is in a part of a lane as long as the longest block.
Cut within(int64_t bytes, const Lane::Part& part) {
  const int64_t begin = std::min(bytes, part.offset);
  return {begin, std::min(bytes, part.offset + part.bytes) - begin};
}

/// The same of a stretch of elements of `unit` bytes, from the tensor's beginning.
Cut within(const Stretch& stretch, int64_t unit, const Lane::Part& part) {
  Cut cut = within((stretch.end - stretch.begin) * unit, part);
  cut.begin += stretch.begin * unit;
  return cut;
}

int64_t longest_stretch(int64_t numel, int size) { return (numel + size - 1) / size; }

}  // namespace

ShmTransport::ShmTransport(std::shared_ptr<Board> board, std::vector<int> members, int rank,
                           std::unique_ptr<Window> window)
    : Transport(std::move(members), rank),
      board_(std::move(board)),
      window_(std::move(window)),
      inputs_(*board_, this->members(), rank) {}

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
    case Operation::kAllGather: return all_gather(call, patience);
    case Operation::kReduceScatter: return reduce_scatter(call, patience);
    case Operation::kAllToAll: return all_to_all(call, offers, patience);
    case Operation::kBroadcast: return broadcast(call, patience);
    case Operation::kBarrier:
    case Operation::kSplit: return;
  }
}

template <typename Stage, typename Take>
void ShmTransport::flow(const std::vector<torch::Tensor>& ins, const std::vector<int64_t>& lengths,
                        int64_t chunk, const Patience& patience, Stage stage, Take take) {
  const size_t count = ins.size();
  // Ranks agree on lengths, so they agree on asking.
  if (std::accumulate(lengths.begin(), lengths.end(), int64_t{0}) < kAskBytes ||
      inputs_.bytes_for(count) > window_->slot_bytes()) {
    inputs_.hear_nothing(count);
  } else {
    window_->pipeline(
        1, patience, [&](int64_t, int64_t g) { inputs_.say(window_->slot(rank(), g), ins); },
        [&](int64_t, int64_t g) {
          said_.clear();
          for (int r = 0; r < size(); ++r) said_.push_back(window_->slot(r, g));
          inputs_.hear(said_, count);
          for (size_t i = 0; i < count; ++i) {
            if (inputs_.all_in_place(i) && lengths[i]) take(Lane::Part{i, 0, lengths[i], 0}, g);
          }
        });
  }
  Lane lane;
  for (size_t i = 0; i < count; ++i) lane.add(inputs_.all_in_place(i) ? 0 : lengths[i]);
  window_->pipeline(
      lane.chunks(chunk), patience,
      [&](int64_t s, int64_t g) {
        lane.parts(s, chunk, [&](const Lane::Part& part) {
          if (!inputs_.at(rank(), part.index)) stage(part, g);
        });
      },
      [&](int64_t s, int64_t g) {
        lane.parts(s, chunk, [&](const Lane::Part& part) { take(part, g); });
      });
  // Until then a peer may be reading what this rank is about to write again.
  if (inputs_.lends()) window_->drain(patience);
}

void ShmTransport::all_gather(const Call& call, const Patience& patience) {
  std::vector<int64_t> lengths;
  for (const auto& in : call.ins) lengths.push_back(static_cast<int64_t>(in.nbytes()));
  auto place = [&](const Lane::Part& part, int r) {
    return bytes_at(call.outs[part.index], r * lengths[part.index] + part.offset);
  };
  flow(
      call.ins, lengths, window_->slot_bytes(), patience,
      [&](const Lane::Part& part, int64_t g) {
        copy_bytes(window_->slot(rank(), g) + part.at, bytes_at(call.ins[part.index], part.offset),
                   part.bytes);
      },
      [&](const Lane::Part& part, int64_t g) {
        copy_bytes(place(part, rank()), bytes_at(call.ins[part.index], part.offset), part.bytes);
        for (int k = 1; k < size(); ++k) {
          const int r = (rank() + k) % size();
          const char* in = inputs_.at(r, part.index);
          copy_bytes(place(part, r), in ? in + part.offset : window_->slot(r, g) + part.at,
                     part.bytes);
        }
      });
}

void ShmTransport::reduce_scatter(const Call& call, const Patience& patience) {
  std::vector<int64_t> lengths;
  for (const auto& in : call.ins) lengths.push_back(static_cast<int64_t>(in.nbytes()) / size());
  /// Where in an input a part of rank r's block begins.
  auto begin = [&](const Lane::Part& part, int r) { return r * lengths[part.index] + part.offset; };
  sources_.resize(size());
  flow(
      call.ins, lengths, window_->lane_bytes(), patience,
      [&](const Lane::Part& part, int64_t g) {
        for (int r = 0; r < size(); ++r) {
          if (r == rank()) continue;
          copy_bytes(window_->lane(rank(), g, r) + part.at,
                     bytes_at(call.ins[part.index], begin(part, r)), part.bytes);
        }
      },
      [&](const Lane::Part& part, int64_t g) {
        const auto& in = call.ins[part.index];
        const auto& out = call.outs[part.index];
        for (int r = 0; r < size(); ++r) {
          const char* theirs = inputs_.at(r, part.index);
          if (r == rank()) {
            sources_[r] = bytes_at(in, begin(part, r));
          } else {
            sources_[r] =
                theirs ? theirs + begin(part, rank()) : window_->lane(r, g, rank()) + part.at;
          }
        }
        reduce_buffers(bytes_at(out, part.offset / in.element_size() * out.element_size()),
                       out.scalar_type(), sources_, in.scalar_type(),
                       part.bytes / in.element_size(), call.reduce);
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
  const int64_t unit = in.element_size();
  auto part_of = [&](int r, const Lane::Part& part) {
    return within(stretch_of(in.numel(), r, size()), unit, part);
  };
  sources_.resize(size());
  flow(
      call.ins, {longest_stretch(in.numel(), size()) * unit}, window_->lane_bytes(), patience,
      [&](const Lane::Part& part, int64_t g) {
        for (int r = 0; r < size(); ++r) {
          if (r == rank()) continue;
          const Cut theirs = part_of(r, part);
          copy_bytes(window_->lane(rank(), g, r), bytes_at(in, theirs.begin), theirs.bytes);
        }
      },
      [&](const Lane::Part& part, int64_t g) {
        const Cut mine = part_of(rank(), part);
        if (mine.bytes == 0) return;
        for (int r = 0; r < size(); ++r) {
          const char* theirs = inputs_.at(r, 0);
          if (r == rank()) {
            sources_[r] = bytes_at(in, mine.begin);
          } else {
            sources_[r] = theirs ? theirs + mine.begin : window_->lane(r, g, rank());
          }
        }
        reduce_buffers(bytes_at(out, mine.begin / unit * out.element_size()), out.scalar_type(),
                       sources_, in.scalar_type(), mine.bytes / unit, call.reduce);
      });
}

/// A rank that speaks here has read what it reduces, so its stretch of the others' memory, which may
/// be their inputs, is theirs to write.
void ShmTransport::gather_stretches(const torch::Tensor& out, const Patience& patience) {
  const int64_t unit = out.element_size();
  auto part_of = [&](int r, const Lane::Part& part) {
    return within(stretch_of(out.numel(), r, size()), unit, part);
  };
  flow(
      {out}, {longest_stretch(out.numel(), size()) * unit}, window_->slot_bytes(), patience,
      [&](const Lane::Part& part, int64_t g) {
        const Cut mine = part_of(rank(), part);
        copy_bytes(window_->slot(rank(), g), bytes_at(out, mine.begin), mine.bytes);
      },
      [&](const Lane::Part& part, int64_t g) {
        for (int k = 1; k < size(); ++k) {
          const int r = (rank() + k) % size();
          const Cut theirs = part_of(r, part);
          const char* place = inputs_.at(r, 0);
          copy_bytes(bytes_at(out, theirs.begin),
                     place ? place + theirs.begin : window_->slot(r, g), theirs.bytes);
        }
      });
}

void ShmTransport::all_to_all(const Call& call, const std::vector<Offer>& offers,
                              const Patience& patience) {
  const auto& in = call.ins[0];
  const int64_t row = row_bytes(in);
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
  auto in_block = [&](int r) { return bytes_at(in, sum_before(mine.in_splits, r) * row); };
  if (in.numel()) copy_bytes(out_block(rank()), in_block(rank()), mine.in_splits[rank()] * row);
  flow(
      call.ins, {most * row}, window_->lane_bytes(), patience,
      [&](const Lane::Part& part, int64_t g) {
        for (int r = 0; r < size(); ++r) {
          if (r == rank()) continue;
          const Cut cut = within(mine.in_splits[r] * row, part);
          if (cut.bytes == 0) continue;
          copy_bytes(window_->lane(rank(), g, r), in_block(r) + cut.begin, cut.bytes);
        }
      },
      [&](const Lane::Part& part, int64_t g) {
        for (int k = 1; k < size(); ++k) {
          const int r = (rank() + k) % size();
          const Cut cut = within(mine.out_splits[r] * row, part);
          if (cut.bytes == 0) continue;
          const char* theirs = inputs_.at(r, 0);
          copy_bytes(out_block(r) + cut.begin,
                     theirs ? theirs + sum_before(offers[r].in_splits, rank()) * row + cut.begin
                            : window_->lane(r, g, rank()),
                     cut.bytes);
        }
      });
}

void ShmTransport::broadcast(const Call& call, const Patience& patience) {
  const auto& tensor = call.outs[0];
  flow(
      call.outs, {static_cast<int64_t>(tensor.nbytes())}, window_->slot_bytes(), patience,
      [&](const Lane::Part& part, int64_t g) {
        if (call.root != rank()) return;
        copy_bytes(window_->slot(rank(), g), bytes_at(tensor, part.offset), part.bytes);
      },
      [&](const Lane::Part& part, int64_t g) {
        if (call.root == rank()) return;
        const char* root = inputs_.at(call.root, 0);
        copy_bytes(bytes_at(tensor, part.offset),
                   root ? root + part.offset : window_->slot(call.root, g), part.bytes);
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
