// SPDX-License-Identifier: Apache-2.0
/// A small model of Units with every shape of trouble: see the members of ToyModel.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "veomni/nn/materialize.h"
#include "veomni/nn/unit.h"

namespace veomni::parallel::toy {

inline constexpr int64_t kWidth = 6, kVocab = 11, kColors = 5, kTokensPerSample = 4;

/// A micro-batch of some samples: 4 tokens and 1 pixel row each. No sample at all is legal.
struct Batch {
  torch::Tensor ids;     ///< [T] int64
  torch::Tensor pixels;  ///< [P, kColors]
  torch::Tensor places;  ///< [P] int64: the token each pixel row belongs to
};

inline nn::Parameter param(std::vector<int64_t> shape, const nn::ParamOptions& options) {
  return nn::Parameter(std::move(shape), options, nn::Init::normal(0.4));
}

/// Takes integers only: no input needs a gradient.
class Table : public nn::Unit {
 public:
  explicit Table(const nn::ParamOptions& o)
      : weight_(parameter("weight", param({kVocab, kWidth}, o))) {}
  torch::Tensor forward(torch::Tensor ids) {
    return run(Tensors{}, [this, ids](const Tensors&) {
      return Tensors{at::embedding(weight_.value(), ids)};
    })[0];
  }

 private:
  nn::Parameter weight_;
};

/// Takes pixels, which need no gradient; has a bias (1-d) and a gate (0-d).
class Pixels : public nn::Unit {
 public:
  explicit Pixels(const nn::ParamOptions& o)
      : weight_(parameter("weight", param({kColors, kWidth}, o))),
        bias_(parameter("bias", param({kWidth}, o))),
        gate_(parameter("gate", param({}, o))) {}
  torch::Tensor forward(torch::Tensor pixels) {
    return run(pixels, [this](const torch::Tensor& x) {
      EXPECT_FALSE(x.requires_grad()) << "a gradient of pixels would be computed for nothing";
      return x.mm(weight_.value()).add(bias_.value()).mul(gate_.value());
    });
  }

 private:
  nn::Parameter weight_, bias_, gate_;
};

/// Inside a layer.
class Mlp : public nn::Unit {
 public:
  explicit Mlp(const nn::ParamOptions& o)
      : up_(parameter("up", param({kWidth, 2 * kWidth}, o))),
        down_(parameter("down", param({2 * kWidth, kWidth}, o))) {}
  torch::Tensor forward(torch::Tensor x) {
    return run(
        x, [this](const torch::Tensor& x) { return x.mm(up_.value()).tanh().mm(down_.value()); });
  }

 private:
  nn::Parameter up_, down_;
};

/// Several inputs (one of them undefined, one of integers), several outputs (one of integers, one
/// that depends on nothing that trains), a nested unit, an unused parameter, a parameter of one
/// row.
class Layer : public nn::Unit {
 public:
  explicit Layer(const nn::ParamOptions& o)
      : mlp_(o),
        mix_(parameter("mix", param({kWidth, kWidth}, o))),
        row_(parameter("row", param({1, kWidth}, o))),
        unused_(parameter("unused", param({3, kWidth}, o))) {
    child("mlp", mlp_);
  }
  /// (x [T, D], deep [T, D], ids [T]) -> x [T, D], aux [T]
  std::pair<torch::Tensor, torch::Tensor> forward(torch::Tensor x, torch::Tensor deep,
                                                  torch::Tensor ids) {
    auto out = run({x, torch::Tensor(), deep, ids}, [this](const Tensors& in) {
      EXPECT_FALSE(in[1].defined());
      auto hidden = in[0].mm(mix_.value()).add(row_.value()).sin();
      auto mixed = in[0] + mlp_.forward(hidden) + in[2] * 0.5;
      return Tensors{mixed, hidden.mul(hidden).mean(1), in[3] + 1, torch::ones_like(in[0]),
                     torch::Tensor()};
    });
    EXPECT_EQ(out[2].scalar_type(), torch::kLong);
    EXPECT_FALSE(out[4].defined());
    return {out[0] * out[3].detach(), out[1]};
  }

 private:
  Mlp mlp_;
  nn::Parameter mix_, row_, unused_;
};

/// Used twice: once before the layers, once after.
class Adapter : public nn::Unit {
 public:
  explicit Adapter(const nn::ParamOptions& o)
      : weight_(parameter("weight", param({kWidth, kWidth}, o))) {}
  torch::Tensor forward(torch::Tensor x) {
    return run(x, [this](const torch::Tensor& x) { return x + x.mm(weight_.value()).cos(); });
  }

 private:
  nn::Parameter weight_;
};

/// The root: an embedding tied to the head (or not), a final scale.
class ToyModel : public nn::Unit {
 public:
  explicit ToyModel(const nn::ParamOptions& o, int num_layers = 3, bool tied = true)
      : table_(o),
        pixels_(o),
        adapter_(o),
        embedding_(parameter("embedding", param({kVocab, kWidth}, o))),
        head_(parameter("head", tied ? embedding_ : param({kVocab, kWidth}, o))),
        scale_(parameter("scale", param({kWidth}, o))) {
    child("table", table_);
    child("pixels", pixels_);
    child("adapter", adapter_);
    for (int i = 0; i < num_layers; ++i) {
      layers_.push_back(std::make_unique<Layer>(o));
      child("layers." + std::to_string(i), *layers_.back());
    }
    nn::assign_names(*this);
  }

  /// Sum over this rank's tokens, divided by `num_tokens` of all ranks and micro-batches.
  torch::Tensor loss(const Batch& batch, double num_tokens) {
    return run(Tensors{}, [this, batch, num_tokens](const Tensors&) {
      auto x = at::embedding(embedding_.value(), batch.ids) + table_.forward(batch.ids);
      auto seen = torch::zeros_like(x).index_add(0, batch.places, pixels_.forward(batch.pixels));
      x = adapter_.forward(x + seen);
      auto aux = torch::zeros({}, x.options());
      for (auto& layer : layers_) {
        auto [next, terms] = layer->forward(x, seen, batch.ids);
        x = next;
        aux = aux + terms.sum();
        if (fail_in_forward) throw std::runtime_error("a layer failed");
      }
      x = adapter_.forward(x) * scale_.value();
      auto scores = x.mm(head_.value().t()).log_softmax(-1).gather(1, batch.ids.unsqueeze(1));
      return Tensors{(aux - scores.sum()) / num_tokens};
    })[0];
  }

  bool fail_in_forward = false;

 private:
  Table table_;
  Pixels pixels_;
  Adapter adapter_;
  std::vector<std::unique_ptr<Layer>> layers_;
  nn::Parameter embedding_, head_, scale_;
};

/// Samples [begin, end) of micro-batch `micro`; the same whoever asks for them. From `pixels_until` on
/// they have no pixels.
inline Batch make_batch(int micro, int64_t begin, int64_t end, torch::ScalarType dtype,
                        int64_t pixels_until = INT64_MAX) {
  const int64_t samples = std::clamp<int64_t>(pixels_until - begin, 0, end - begin);
  auto ids = torch::arange(begin * kTokensPerSample, end * kTokensPerSample, torch::kLong);
  auto pixels = torch::arange(begin * kColors, (begin + samples) * kColors, torch::kDouble)
                    .add(100 * micro)
                    .sin();
  return {ids.mul(7).add(micro * 5).remainder(kVocab), pixels.view({samples, kColors}).to(dtype),
          torch::arange(samples, torch::kLong).mul(kTokensPerSample)};
}

}  // namespace veomni::parallel::toy
