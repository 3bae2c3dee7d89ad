// SPDX-License-Identifier: Apache-2.0
// Times every op forward and backward, here and in ATen, and what the machine can do at most. run.py makes the table.
// A benchmark is named op|shape|dtype|forward or backward|ours or aten; limits are limit|name|instruction.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <chrono>

#include "limits.h"
#include "op_case.h"

namespace veomni::bench {

torch::Tensor random(torch::IntArrayRef sizes, torch::ScalarType dtype) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  return (torch::randn(sizes, generator) * 0.1).to(dtype);
}

torch::Tensor leaf(torch::IntArrayRef sizes, torch::ScalarType dtype) {
  return random(sizes, dtype).requires_grad_();
}

torch::Tensor weight(torch::IntArrayRef sizes, torch::ScalarType dtype, bool ours) {
  auto out = leaf(sizes, dtype);
  if (ours) out.set_grad_dtype(torch::kFloat);
  return out;
}

namespace {

using benchmark::State;

enum class Pass { kForward, kBackward, kWhole };

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Only the pass itself is timed: backward needs a forward before each of its runs.
void time_op(State& state, const OpCase& op, bool ours, Pass pass) {
  const Built built = op.build(ours);
  std::vector<torch::Tensor> douts;
  for (const torch::Tensor& out : built.forward())
    douts.push_back(op.whole ? torch::ones_like(out) : random(out.sizes(), out.scalar_type()));
  for (auto _ : state) {
    auto begin = std::chrono::steady_clock::now();
    const Results out = built.forward();
    if (pass == Pass::kBackward) begin = std::chrono::steady_clock::now();
    std::vector<torch::Tensor> gradients;
    if (pass != Pass::kForward) gradients = torch::autograd::grad(out, built.leaves, douts);
    state.SetIterationTime(seconds_since(begin));
  }
  const Work& work = op.work;
  const bool first = pass != Pass::kBackward, second = pass != Pass::kForward;
  state.counters["flops"] = (first ? work.flops_forward : 0) + (second ? work.flops_backward : 0);
  state.counters["bytes"] = (first ? work.bytes_forward : 0) + (second ? work.bytes_backward : 0);
}

void add_op(const OpCase& op) {
  std::vector<std::pair<const char*, Pass>> passes = {{"forward", Pass::kForward},
                                                      {"backward", Pass::kBackward}};
  if (op.whole) passes = {{"both", Pass::kWhole}};
  if (!op.whole && op.work.bytes_backward == 0) passes.pop_back();
  for (const auto& [name, pass] : passes) {
    for (const bool ours : {true, false}) {
      const std::string full = op.op + "|" + op.shape + "|" +
                               (op.dtype == torch::kFloat ? "fp32" : "bf16") + "|" + name + "|" +
                               (ours ? "ours" : "aten");
      benchmark::RegisterBenchmark(
          full.c_str(), [op, ours, pass = pass](State& state) { time_op(state, op, ours, pass); })
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

void add_limit(const std::string& name, const std::function<Rate()>& measure) {
  benchmark::RegisterBenchmark(("limit|" + name).c_str(),
                               [measure](State& state) {
                                 Rate rate;
                                 for (auto _ : state) {
                                   rate = measure();
                                   state.SetIterationTime(1e-3);
                                 }
                                 state.counters["rate"] = rate.per_second;
                                 state.SetLabel(rate.made_by);
                               })
      ->UseManualTime()
      ->Iterations(1);
}

}  // namespace
}  // namespace veomni::bench

int main(int argc, char** argv) {
  namespace bench = veomni::bench;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const int threads = at::get_num_threads();
  bench::add_limit("fp32", [=] { return bench::peak_flops(bench::Number::kFloat32, threads); });
  bench::add_limit("bf16", [=] { return bench::peak_flops(bench::Number::kBFloat16, threads); });
  bench::add_limit("memory", [=] { return bench::triad_bytes(threads); });
  std::vector<bench::OpCase> cases;
  for (const auto dtype : {torch::kBFloat16, torch::kFloat}) {
    bench::add_language(cases, dtype);
    bench::add_media(cases, dtype);
  }
  for (const auto& op : cases) bench::add_op(op);
  benchmark::RunSpecifiedBenchmarks();
}
