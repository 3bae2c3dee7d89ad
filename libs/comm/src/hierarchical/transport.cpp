// SPDX-License-Identifier: Apache-2.0
#include "hierarchical/transport.h"

#include <ATen/core/LegacyTypeDispatch.h>

#include <algorithm>
#include <map>

#include "process/header.h"

namespace veomni::hierarchical {

namespace {

/// to = from in to's dtype, underneath autograd.
void convert(const torch::Tensor& to, const torch::Tensor& from) {
  at::AutoDispatchBelowADInplaceOrView below;
  to.copy_(from.view(to.sizes()));
}

std::string segment_name(const shm::Board& board, const std::string& id) {
  return detail::concat(board.name(), ".", std::hex, std::hash<std::string>()(id));
}

}  // namespace

bool Layout::even() const {
  return std::all_of(ranks.begin(), ranks.end(),
                     [&](const auto& host) { return host.size() == ranks[0].size(); });
}

Layout layout_of(const std::vector<int>& host_of, int rank) {
  Layout layout;
  std::map<int, int> hosts;
  for (int r = 0; r < static_cast<int>(host_of.size()); ++r) {
    const auto [host, is_new] = hosts.try_emplace(host_of[r], layout.hosts());
    if (is_new) layout.ranks.emplace_back();
    auto& ranks = layout.ranks[host->second];
    if (r == rank) {
      layout.host = host->second;
      layout.local = static_cast<int>(ranks.size());
    }
    ranks.push_back(r);
  }
  return layout;
}

HierarchicalTransport::HierarchicalTransport(std::shared_ptr<HierarchicalJob> job,
                                             std::vector<int> members, int rank,
                                             const std::string& id,
                                             std::shared_ptr<const std::vector<int>> world_hosts,
                                             const Patience& patience)
    : Transport(std::move(members), rank),
      job_(std::move(job)),
      world_hosts_(std::move(world_hosts)),
      arrived_(new std::atomic<int64_t>[size()]) {
  std::vector<int> host_of;
  for (int r = 0; r < size(); ++r) {
    arrived_[r] = 0;
    host_of.push_back((*world_hosts_)[this->members()[r]]);
  }
  layout_ = layout_of(host_of, rank);
  flat_ = std::make_unique<mpi::MpiTransport>(job_->mpi(), this->members(), rank, id);
  if (!layout_.even()) return;
  auto world_ranks = [&](const std::vector<int>& ranks) {
    std::vector<int> world;
    for (int r : ranks) world.push_back(this->members()[r]);
    return world;
  };
  if (layout_.locals() > 1) {
    const auto mates = world_ranks(layout_.ranks[layout_.host]);
    auto window = std::make_unique<shm::Window>(job_->board(), segment_name(*job_->board(), id),
                                                mates, layout_.local, size(), &patience,
                                                process::Clock::time_point::max());
    inside_ =
        std::make_unique<shm::ShmTransport>(job_->board(), mates, layout_.local, std::move(window));
  }
  if (layout_.hosts() > 1) {
    std::vector<int> peers;
    for (const auto& host : layout_.ranks) peers.push_back(host[layout_.local]);
    across_ = std::make_unique<mpi::MpiTransport>(job_->mpi(), world_ranks(peers), layout_.host,
                                                  id + ".across");
  }
}

bool HierarchicalTransport::arrived(int rank, int64_t sequence) const {
  if (!layout_.even()) return flat_->arrived(rank, sequence);
  return arrived_[rank].load(std::memory_order_acquire) > sequence;
}

/// First the ranks of a host, then the hosts, each of which shows all its ranks' offers.
const std::vector<Offer>& HierarchicalTransport::meet(int64_t sequence, const Offer& mine,
                                                      const OnArrival& seen, Patience& patience) {
  if (!layout_.even()) return flat_->meet(sequence, mine, seen, patience);
  const size_t bytes = process::header_bytes(size());
  std::vector<char> ours(bytes * layout_.locals());
  auto note = [&](int r, const Offer& offer) {
    arrived_[r].store(sequence + 1, std::memory_order_release);
    seen(r, offer);
  };
  process::write_header(ours.data() + bytes * layout_.local, mine, size());
  if (inside_) {
    inside_->meet(
        sequence, mine,
        [&](int l, const Offer& offer) {
          process::write_header(ours.data() + bytes * l, offer, size());
          note(layout_.ranks[layout_.host][l], offer);
        },
        patience);
  }
  offers_.resize(size());
  auto read = [&](int h, int l) {
    return offers_[layout_.ranks[h][l]] =
               process::read_header(headers_[h].data() + bytes * l, size());
  };
  if (across_) {
    across_->exchange(
        ours, headers_,
        [&](int h) {
          for (int l = 0; l < layout_.locals(); ++l) note(layout_.ranks[h][l], read(h, l));
        },
        patience);
  } else {
    headers_.assign(1, ours);
  }
  for (int l = 0; l < layout_.locals(); ++l) read(layout_.host, l);
  offers_[rank()] = mine;
  return offers_;
}

void HierarchicalTransport::move(const Call& call, const std::vector<Offer>& offers,
                                 Patience& patience) {
  // On one host, and with one rank a host, places in the part are ranks of the group.
  if (inside_ && !across_) return inside_->move(call, offers, patience);
  if (!inside_) return flat_->move(call, offers, patience);
  switch (call.operation) {
    case Operation::kAllReduce: return all_reduce(call, patience);
    case Operation::kAllGather: return all_gather(call, patience);
    case Operation::kReduceScatter: return reduce_scatter(call, patience);
    case Operation::kAllToAll: return flat_->move(call, offers, patience);
    case Operation::kBroadcast: return broadcast(call, patience);
    case Operation::kBarrier:
    case Operation::kSplit: return;
  }
}

void HierarchicalTransport::all_gather(const Call& call, Patience& patience) {
  const int hosts = layout_.hosts(), locals = layout_.locals();
  Call across{.operation = Operation::kAllGather, .ins = call.ins};
  Call inside{.operation = Operation::kAllGather};
  for (const auto& in : call.ins) {
    across.outs.push_back(torch::empty({hosts * in.numel()}, in.options()));
    inside.outs.push_back(torch::empty({locals * hosts * in.numel()}, in.options()));
  }
  inside.ins = across.outs;
  across_->move(across, {}, patience);
  inside_->move(inside, {}, patience);
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto bytes = static_cast<int64_t>(call.ins[i].nbytes());
    for (int l = 0; bytes && l < locals; ++l) {
      for (int h = 0; h < hosts; ++h) {
        copy_bytes(bytes_at(call.outs[i], layout_.ranks[h][l] * bytes),
                   bytes_at(inside.outs[i], (l * hosts + h) * bytes), bytes);
      }
    }
  }
}

/// This rank's block of `in` [locals * n], reduced over the ranks of the host: [n] in
/// accumulate_dtype.
torch::Tensor HierarchicalTransport::reduce_block(const torch::Tensor& in, ReduceOp op,
                                                  Patience& patience) {
  auto block = torch::empty({in.numel() / layout_.locals()},
                            in.options().dtype(accumulate_dtype(in.scalar_type())));
  inside_->move(
      {.operation = Operation::kReduceScatter, .outs = {block}, .ins = {in}, .reduce = op}, {},
      patience);
  return block;
}

void HierarchicalTransport::reduce_scatter(const Call& call, Patience& patience) {
  const int hosts = layout_.hosts(), locals = layout_.locals();
  Call across{.operation = Operation::kReduceScatter, .reduce = call.reduce};
  for (size_t i = 0; i < call.ins.size(); ++i) {
    const auto& in = call.ins[i];
    const int64_t bytes = static_cast<int64_t>(in.nbytes()) / size();
    auto by_local = torch::empty({in.numel()}, in.options());
    for (int l = 0; bytes && l < locals; ++l) {
      for (int h = 0; h < hosts; ++h) {
        copy_bytes(bytes_at(by_local, (l * hosts + h) * bytes),
                   bytes_at(in, layout_.ranks[h][l] * bytes), bytes);
      }
    }
    across.ins.push_back(reduce_block(by_local, call.reduce, patience));
    across.outs.push_back(torch::empty({in.numel() / size()}, across.ins.back().options()));
  }
  across_->move(across, {}, patience);
  for (size_t i = 0; i < call.outs.size(); ++i) convert(call.outs[i], across.outs[i]);
}

void HierarchicalTransport::all_reduce(const Call& call, Patience& patience) {
  const auto& in = call.ins[0];
  const auto& out = call.outs[0];
  const int64_t locals = layout_.locals(), numel = in.numel();
  const int64_t block = (numel + locals - 1) / locals;
  if (numel == 0) return;
  // Padded to blocks of one length; what the padding reduces to is dropped.
  auto padded = torch::zeros({block * locals}, in.options());
  copy_bytes(padded.data_ptr(), in.data_ptr(), static_cast<int64_t>(in.nbytes()));
  auto mine = reduce_block(padded, call.reduce, patience);
  across_->move(
      {.operation = Operation::kAllReduce, .outs = {mine}, .ins = {mine}, .reduce = call.reduce},
      {}, patience);
  auto narrow = mine.to(out.scalar_type());
  auto all = torch::empty({block * locals}, out.options());
  inside_->move({.operation = Operation::kAllGather, .outs = {all}, .ins = {narrow}}, {}, patience);
  copy_bytes(out.data_ptr(), all.data_ptr(), static_cast<int64_t>(out.nbytes()));
}

void HierarchicalTransport::broadcast(const Call& call, Patience& patience) {
  Call part = call;
  for (int h = 0; h < layout_.hosts(); ++h) {
    for (int l = 0; l < layout_.locals(); ++l) {
      if (layout_.ranks[h][l] != call.root) continue;
      part.root = h;
      if (l == layout_.local) across_->move(part, {}, patience);
      part.root = l;
    }
  }
  inside_->move(part, {}, patience);
}

std::shared_ptr<process::Transport> HierarchicalTransport::split(const std::vector<int>& places,
                                                                 const std::string& id,
                                                                 Patience& patience) {
  auto [ranks, place] = part_of(places);
  return std::make_shared<HierarchicalTransport>(job_, ranks, place, id, world_hosts_, patience);
}

}  // namespace veomni::hierarchical
