// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/loss.h"

#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>

#include "gemm.h"

namespace veomni::ops {
namespace {

/// Holds the gradients that the forward pass made. A Node rather than a Function, so that it can
/// give them away: a saved copy would stop the engine from adopting the [V, D] tensor as the
/// parameter's gradient.
class LinearCrossEntropyNode : public torch::autograd::Node {
 public:
  Tensor dx, dweight, dbias;

  variable_list apply(variable_list&& grads) override {
    check_first_order("linear_cross_entropy");
    const trace::Span span(trace::Category::kOp, "linear_cross_entropy", "backward");
    variable_list result(3);
    if (!grads[0].defined()) return result;
    VEOMNI_CHECK(!given_away_,
                 "linear_cross_entropy: its backward ran already; it cannot run twice");
    given_away_ = true;
    const Tensor scale = grads[0];
    const bool is_one = scale.is_meta() || (scale.is_cpu() && scale.item<double>() == 1);
    if (task_should_compute_output(0)) result[0] = scaled(std::move(dx), scale, is_one);
    if (task_should_compute_output(1)) result[1] = scaled(std::move(dweight), scale, is_one);
    if (task_should_compute_output(2)) result[2] = scaled(std::move(dbias), scale, is_one);
    release_variables();
    return result;
  }

  void release_variables() override {
    dx.reset();
    dweight.reset();
    dbias.reset();
  }

 private:
  static Tensor scaled(Tensor gradient, const Tensor& scale, bool is_one) {
    return is_one || !gradient.defined() ? gradient
                                         : gradient.mul_(scale.to(gradient.scalar_type()));
  }
  bool given_away_ = false;
};

/// The counted tokens, moved to the front: row index[i] of x has label label[i] and weight weight[i], i < count.
struct Counted {
  Tensor index, label, weight;
  int64_t count = 0;

  Counted(const char* op, const Tensor& labels, const Tensor& weights, int64_t vocabulary,
          const Tensor& x)
      : index(at::empty({labels.numel()}, x.options().dtype(at::kLong))),
        label(at::empty({labels.numel()}, x.options().dtype(at::kLong))),
        weight(at::empty({labels.numel()}, x.options().dtype(at::kDouble))) {
    if (x.is_meta()) {
      count = labels.numel();
      return;
    }
    const int64_t* from = labels.const_data_ptr<int64_t>();
    int64_t* rows = index.mutable_data_ptr<int64_t>();
    int64_t* values = label.mutable_data_ptr<int64_t>();
    double* weight_data = weight.mutable_data_ptr<double>();
    const double* weight_from = weights.defined() ? weights.const_data_ptr<double>() : nullptr;
    for (int64_t t = 0; t < labels.numel(); ++t) {
      if (from[t] == kIgnoreLabel) continue;
      VEOMNI_CHECK(from[t] >= 0 && from[t] < vocabulary, op, ": labels[", t, "] = ", from[t],
                   " lies outside [0, ", vocabulary, ") and is not ", kIgnoreLabel);
      rows[count] = t;
      weight_data[count] = weight_from ? weight_from[t] : 1.0;
      values[count++] = from[t];
    }
  }

  /// Whether counted rows [first, first + n) are neighbours in x, so that views can stand for
  /// copies.
  bool adjacent(int64_t first, int64_t n) const {
    if (index.is_meta()) return true;
    const int64_t* rows = index.const_data_ptr<int64_t>();
    return rows[first + n - 1] - rows[first] == n - 1;
  }
  int64_t row(int64_t i) const { return index.is_meta() ? i : index.const_data_ptr<int64_t>()[i]; }
};

int64_t automatic_chunk(int64_t vocabulary) {
  // 64 Mi logits: every chunk adds a pass over the float32 weight gradient, so chunks must not be
  // small either.
  constexpr int64_t kLogits = 64 << 20;
  return std::clamp<int64_t>(kLogits / std::max<int64_t>(vocabulary, 1) / 64 * 64, 128, 1024);
}

/// One pass over the counted tokens in chunks.
class ChunkedLoss {
 public:
  /// @param token_weights  undefined: 1 each
  ChunkedLoss(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& labels,
              const Tensor& token_weights, int64_t chunk_tokens, PackedWeightPtr packed)
      : x_(x),
        weight_(weight),
        bias_(bias),
        packed_(std::move(packed)),
        counted_("linear_cross_entropy", labels, token_weights, weight.size(0), x),
        losses_(at::empty({x.size(0)}, acc_options(x))) {
    const int64_t chunk =
        std::min(x.size(0), chunk_tokens > 0 ? chunk_tokens : automatic_chunk(weight.size(0)));
    rows_ = at::empty({chunk, x.size(1)}, x.options());
    logits_ = at::empty({chunk, weight.size(0)}, x.options());
  }

  void run(bool need_dx, bool need_dweight, bool need_dbias) {
    if (need_dx) {
      dx_ = at::empty(x_.sizes(), x_.options());
      drows_ = at::empty(rows_.sizes(), x_.options());
      if (counted_.count < x_.size(0)) dx_.zero_();
    }
    if (need_dweight) {
      dweight_ = at::empty(weight_.sizes(), acc_options(weight_));
      if (counted_.count == 0) dweight_.zero_();
    }
    if (need_dbias) {
      dbias_ = at::empty({weight_.size(0), 1}, acc_options(weight_));
      ones_ = at::empty({rows_.size(0), 1}, x_.options());
      ones_.fill_(1);
      if (counted_.count == 0) dbias_.zero_();
    }
    for (int64_t first = 0; first < counted_.count; first += rows_.size(0)) {
      run_chunk(first, std::min(rows_.size(0), counted_.count - first));
    }
  }

  Tensor total() const {
    Tensor loss = at::empty({}, acc_options(x_));
    launch(x_.device(),
           kernels::WeightedSum{kernel_dtype(x_, "linear_cross_entropy"), counted_.count,
                                static_cast<const double*>(in(counted_.weight)), in(losses_),
                                out(loss)});
    return loss;
  }

  Tensor per_token() const {
    Tensor loss = at::zeros({x_.size(0)}, acc_options(x_));
    launch(
        x_.device(),
        kernels::PutRows{kernel_dtype(loss, "linear_cross_entropy"), counted_.count, 1, in(losses_),
                         static_cast<const int64_t*>(in(counted_.index)), out(loss)});
    return loss;
  }

  Tensor dx_, dweight_, dbias_;

 private:
  void run_chunk(int64_t first, int64_t n) {
    const bool adjacent = counted_.adjacent(first, n);
    const Tensor index = counted_.index.narrow(0, first, n);
    const int64_t* index_data = static_cast<const int64_t*>(in(index));
    const auto dtype = kernel_dtype(x_, "linear_cross_entropy");
    const int64_t width = x_.size(1);
    Tensor rows = adjacent ? x_.narrow(0, counted_.row(first), n) : rows_.narrow(0, 0, n);
    if (!adjacent)
      launch(x_.device(), kernels::GatherRows{dtype, n, width, in(x_), index_data, out(rows)});
    const Tensor logits = logits_.narrow(0, 0, n);
    matmul_nt(logits, rows, weight_, {}, {}, packed_);
    launch(x_.device(),
           kernels::CrossEntropy{
               dtype, n, weight_.size(0), dx_.defined() || dweight_.defined() || dbias_.defined(),
               out(logits), bias_.defined() ? in(bias_) : nullptr,
               static_cast<const int64_t*>(in(counted_.label.narrow(0, first, n))),
               static_cast<const double*>(in(counted_.weight.narrow(0, first, n))),
               out(losses_.narrow(0, first, n))});
    if (dx_.defined()) {
      const Tensor drows =
          adjacent ? dx_.narrow(0, counted_.row(first), n) : drows_.narrow(0, 0, n);
      matmul_nn(drows, logits, weight_, packed_);
      if (!adjacent)
        launch(x_.device(), kernels::PutRows{dtype, n, width, in(drows), index_data, out(dx_)});
    }
    if (dweight_.defined()) matmul_tn(dweight_, logits, rows, first > 0);
    if (dbias_.defined()) matmul_tn(dbias_, logits, ones_.narrow(0, 0, n), first > 0);
  }

  const Tensor& x_;
  const Tensor& weight_;
  const Tensor& bias_;
  const PackedWeightPtr packed_;
  Counted counted_;
  Tensor losses_, rows_, logits_, drows_, ones_;
};

Tensor check_loss(const Tensor& x, const Tensor& weight, const Tensor& labels) {
  VEOMNI_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1) &&
                   labels.dim() == 1 && labels.size(0) == x.size(0),
               "linear_cross_entropy: x [T, D] = ", x.sizes(), ", weight [V, D] = ", weight.sizes(),
               ", labels [T] = ", labels.sizes(), " do not fit");
  check_same_kind("linear_cross_entropy", "x", x, "weight", weight);
  kernel_dtype(x, "linear_cross_entropy");
  VEOMNI_CHECK(weight.size(0) > 0, "linear_cross_entropy: the vocabulary is empty");
  return as_int64("linear_cross_entropy", "labels", labels, x);
}

}  // namespace

WeightedLoss linear_cross_entropy(Tensor x_TD, Tensor weight_VD, Tensor labels_T, Tensor weights_T,
                                  int64_t chunk_tokens, Tensor bias_V, PackedWeightPtr packed) {
  const Tensor labels = check_loss(x_TD, weight_VD, labels_T);
  VEOMNI_CHECK(weights_T.defined() && weights_T.dim() == 1 && weights_T.is_floating_point() &&
                   weights_T.size(0) == labels_T.size(0),
               "linear_cross_entropy: weights must be floating [T], one for each of the ",
               labels_T.size(0), " labels");
  if (bias_V.defined()) {
    VEOMNI_CHECK(bias_V.dim() == 1 && bias_V.size(0) == weight_VD.size(0),
                 "linear_cross_entropy: bias [V] = ", bias_V.sizes(),
                 " does not fit weight [V, D] = ", weight_VD.sizes());
    check_same_kind("linear_cross_entropy", "x", x_TD, "bias", bias_V);
  }
  const bool record = at::GradMode::is_enabled();
  const bool need_dx = record && x_TD.requires_grad(),
             need_dweight = record && weight_VD.requires_grad(),
             need_dbias = record && bias_V.defined() && bias_V.requires_grad();
  WeightedLoss loss;
  c10::intrusive_ptr<LinearCrossEntropyNode> node;
  {
    const trace::Span span(trace::Category::kOp, "linear_cross_entropy", "forward");
    const at::NoGradGuard no_grad;
    const Tensor x = x_TD.contiguous(), weight = weight_VD.contiguous();
    const Tensor bias = bias_V.defined() ? bias_V.contiguous() : Tensor();
    // On meta the copy of weights that are no doubles is counted, not made.
    const Tensor token_weights = !x.is_meta() ? weights_T.to(at::kCPU, at::kDouble).contiguous()
                                 : weights_T.scalar_type() == at::kDouble
                                     ? weights_T
                                     : at::empty(weights_T.sizes(), x.options().dtype(at::kDouble));
    ChunkedLoss pass(x, weight, bias, labels, token_weights, chunk_tokens, packed);
    pass.run(need_dx, need_dweight, need_dbias);
    loss = {pass.total(), pass.per_token()};
    if (need_dx || need_dweight || need_dbias) {
      node = c10::make_intrusive<LinearCrossEntropyNode>();
      node->dx = std::move(pass.dx_);
      node->dweight = std::move(pass.dweight_);
      if (need_dbias) node->dbias = pass.dbias_.view({-1});
    }
  }
  if (node) {
    node->set_next_edges(torch::autograd::collect_next_edges(x_TD, weight_VD, bias_V));
    torch::autograd::set_history(loss.total, node);
  }
  return loss;
}

Tensor linear_cross_entropy_per_token(Tensor x_TD, Tensor weight_VD, Tensor labels_T,
                                      PackedWeightPtr packed) {
  const Tensor labels = check_loss(x_TD, weight_VD, labels_T);
  const trace::Span span(trace::Category::kOp, "linear_cross_entropy", "forward");
  const at::NoGradGuard no_grad;
  const Tensor x = x_TD.contiguous(), weight = weight_VD.contiguous();
  const Tensor none;
  ChunkedLoss pass(x, weight, none, labels, none, 0, packed);
  pass.run(false, false, false);
  return pass.per_token();
}

}  // namespace veomni::ops
