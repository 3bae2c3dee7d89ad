// SPDX-License-Identifier: Apache-2.0
/// A chain of equal units under a root: what is in memory when, and what is called when, can be counted
/// by hand.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "toy_model.h"

namespace veomni::parallel::toy {

/// x + (x w + b) up: w [D, D], b [D], up [D, D]; D is divided by no small number of ranks.
class Link : public nn::Unit {
 public:
  Link(int64_t width, const nn::ParamOptions& o)
      : weight_(parameter("weight", param({width, width}, o))),
        bias_(parameter("bias", param({width}, o))),
        up_(parameter("up", param({width, width}, o))) {}
  torch::Tensor forward(torch::Tensor x, const std::function<void(const std::string&)>& note) {
    return run(x, [this, note](const torch::Tensor& x) {
      if (note) note("run " + name());
      return x + x.mm(weight_.value()).add(bias_.value()).mm(up_.value());
    });
  }

 private:
  nn::Parameter weight_, bias_, up_;
};

class Chain : public nn::Unit {
 public:
  Chain(int64_t width, int length, const nn::ParamOptions& o)
      : scale_(parameter("scale", param({width}, o))) {
    for (int i = 0; i < length; ++i) {
      links_.push_back(std::make_unique<Link>(width, o));
      child("links." + std::to_string(i), *links_.back());
    }
    nn::assign_names(*this);
  }
  /// Sum over x [T, D] passed through the links in the order given (none: first to last).
  torch::Tensor loss(torch::Tensor x, std::vector<int> order = {}) {
    if (order.empty()) {
      for (size_t i = 0; i < links_.size(); ++i) order.push_back(static_cast<int>(i));
    }
    return run(Tensors{}, [this, x, order](const Tensors&) {
      auto y = x * scale_.value();
      for (int i : order) y = links_[i]->forward(y, note);
      return Tensors{y.square().sum()};
    })[0];
  }
  std::function<void(const std::string&)> note;  ///< hears of every link's forward

 private:
  std::vector<std::unique_ptr<Link>> links_;
  nn::Parameter scale_;
};

}  // namespace veomni::parallel::toy
