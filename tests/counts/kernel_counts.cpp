// SPDX-License-Identifier: Apache-2.0
// Runs every kernel once, at the AVX2 level and on one thread, and tells callgrind where each begins and ends:
//
//   valgrind --tool=callgrind --instr-atstart=no kernel_counts
//
// Each run leaves a dump whose trigger is "KERNEL DTYPE SHAPE". test_counts.py sums what was executed inside this program, so
// that neither OpenMP nor the C library counts. AVX2, because valgrind knows no AVX-512 and because the level is then the same on
// every processor.
#include <omp.h>
#include <valgrind/callgrind.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/kernel_list.h"

namespace {

using namespace veomni::ops::kernels;

/// Memory for arguments, aligned as tensors are and never moved.
class Arena {
 public:
  void* zeros(size_t bytes) {
    const size_t size = (bytes + 127) / 64 * 64;
    blocks_.emplace_back(std::aligned_alloc(64, size), &std::free);
    return std::memset(blocks_.back().get(), 0, size);
  }
  /// `count` numbers between -1 and 1, by a fixed rule.
  void* numbers(DType dtype, int64_t count) {
    void* out = zeros(static_cast<size_t>(count) * 8);
    for (int64_t i = 0; i < count; ++i) {
      const float x = static_cast<float>((i * 7919 + 104729 * ++salt_) % 2003) / 1001.5F - 1.0F;
      if (dtype == DType::kFloat) {
        static_cast<float*>(out)[i] = x;
      } else {
        uint32_t bits = 0;
        std::memcpy(&bits, &x, 4);
        static_cast<uint16_t*>(out)[i] = static_cast<uint16_t>(bits >> 16);
      }
    }
    return out;
  }
  /// Results and workspaces: room for the widest type.
  void* room(int64_t count) { return zeros(static_cast<size_t>(count) * 8); }
  template <typename T> T* copy(const std::vector<T>& values) {
    auto* out = static_cast<T*>(zeros(values.size() * sizeof(T)));
    std::memcpy(out, values.data(), values.size() * sizeof(T));
    return out;
  }

 private:
  std::deque<std::unique_ptr<void, decltype(&std::free)>> blocks_;
  int64_t salt_ = 0;
};

class Counter {
 public:
  explicit Counter(DType dtype) : dtype_(dtype) {}

  void count_all() {
    products();
    rows_and_norms();
    pictures();
    heads();
    elementwise();
    losses();
    attention();
    groups();
  }

 private:
  template <typename Args>
  void count(const char* kernel, const std::string& shape, const Args& args) {
    CALLGRIND_START_INSTRUMENTATION;
    avx2::run(args);
    CALLGRIND_STOP_INSTRUMENTATION;
    const std::string label =
        std::string(kernel) + (dtype_ == DType::kFloat ? " float32 " : " bfloat16 ") + shape;
    CALLGRIND_DUMP_STATS_AT(label.c_str());
  }
  void* in(int64_t n) { return arena_.numbers(dtype_, n); }
  void* acc(int64_t n) { return arena_.numbers(DType::kFloat, n); }
  void* out(int64_t n) { return arena_.room(n); }
  int64_t* index(int64_t n, int64_t limit) {
    std::vector<int64_t> values(n);
    for (int64_t i = 0; i < n; ++i) values[i] = i * 5 % limit;
    return arena_.copy(values);
  }

  void products();
  void rows_and_norms();
  void pictures();
  void heads();
  void elementwise();
  void losses();
  void attention();
  void groups();

  DType dtype_;
  Arena arena_;
};

void Counter::products() {
  const int64_t M = 96, N = 80, K = 64;
  for (const bool wide : {false, true}) {  // a forward product, and a weight's gradient
    count(wide ? "MatMul(wide)" : "MatMul", "96x80x64",
          MatMul{dtype_, wide, wide, M, N, K, in(M * K), K, 1, in(N * K), K, 1, out(M * N), N,
                 out(matmul_workspace(dtype_, wide, M, N, K, 1))});
  }
  void* const panels = out(packed_bytes(dtype_, N, K));
  count("PackMatrix", "80x64", PackMatrix{dtype_, N, K, in(N * K), K, 1, panels});
  count("MatMul(packed)", "96x80x64",
        MatMul{dtype_, false, false, M, N, K, in(M * K), K, 1, in(N * K), K, 1, out(M * N), N,
               out(matmul_workspace(dtype_, false, M, N, K, 1, true)), nullptr, nullptr, panels});
  count("AddBias", "64x128", AddBias{dtype_, 64, 128, in(128), out(64 * 128)});
  count("ColumnSum", "64x128",
        ColumnSum{dtype_, 64, 128, in(64 * 128), out(128), out(kReductionBlocks * 128)});
  count("NearestCode", "32x64x8",
        NearestCode{dtype_, 32, 64, 8, in(32 * 8), in(64 * 8), index(32, 1),
                    out(nearest_code_workspace(64, 8))});
}

void Counter::rows_and_norms() {
  const int64_t R = 64, D = 128, n = R * D;
  count("GatherRows", "64x128", GatherRows{dtype_, R, D, in(n), index(R, R), out(n)});
  count("ScatterAddRows", "64x128",
        ScatterAddRows{dtype_, true, R, D, R, in(n), index(R, R / 2), nullptr, out(n),
                       index(2 * R + 1, 1)});
  count("PutRows", "64x128", PutRows{dtype_, R, D, in(n), index(R, R), out(n)});
  count("RmsNormForward", "64x128",
        RmsNormForward{dtype_, R, D, 1e-6, in(n), in(D), out(n), out(R)});
  count("RmsNormBackward", "64x128",
        RmsNormBackward{dtype_, R, D, in(n), in(D), acc(R), in(n), out(n), out(D),
                        out(kReductionBlocks * D)});
  count("LayerNormForward", "64x128",
        LayerNormForward{dtype_, R, D, 1e-6, in(n), in(D), in(D), out(n), out(R), out(R)});
  count("LayerNormBackward", "64x128",
        LayerNormBackward{dtype_, R, D, in(n), in(D), acc(R), acc(R), in(n), out(n), out(D), out(D),
                          out(kReductionBlocks * 2 * D)});
  count("NormalizeForward", "64x128", NormalizeForward{dtype_, R, D, 1e-12, in(n), out(n), out(R)});
  count("NormalizeBackward", "64x128",
        NormalizeBackward{dtype_, R, D, 1e-12, in(n), acc(R), in(n), out(n)});
  count("CenterRows", "2x32x128", CenterRows{dtype_, 2, 32, D, in(n), out(n)});
  count("MeanPairs", "32x128", MeanPairs{dtype_, 32, D, in(n), out(n)});
  count("SpreadPairs", "32x128", SpreadPairs{dtype_, 32, D, in(n), out(n)});
}

void Counter::pictures() {
  const ConvolveShape shape{2, 8, 8, 16, 8, 8, 24, 3, 3, 1, 1};
  const int64_t x = 2 * 8 * 8 * 16, y = 2 * 8 * 8 * 24, w = 24 * 16 * 9;
  count("Convolve", "2x8x8x16>24",
        Convolve{dtype_, shape, in(x), in(w), 16 * 9, 9, 3, 1, in(24), out(y),
                 out(convolve_workspace(shape, 1))});
  count("ConvolveWeight", "2x8x8x16>24",
        ConvolveWeight{dtype_, shape, in(x), in(y), out(w),
                       out(convolve_weight_workspace(shape, 1))});
  const WindowAxis axis{8, 4, 3, 2, 1, -1, 1};
  count("GatherWindows", "2x8x8x16",
        GatherWindows{dtype_, 0, 2 * 4 * 4, 16, axis, axis, in(x), out(2 * 16 * 9 * 16)});
  const GroupShape groups{2, 64, 32, 8, true};
  const int64_t n = 2 * 64 * 32;
  count("GroupNormForward", "2x64x32/8",
        GroupNormForward{dtype_, groups, 1e-6, in(n), in(32), in(32), out(n), out(16), out(16),
                         out(2 * 2 * 32)});
  count("GroupNormBackward", "2x64x32/8",
        GroupNormBackward{dtype_, groups, in(n), in(32), in(32), acc(16), acc(16), in(n), out(n),
                          out(32), out(32), out(2 * kGroupNormSums * 32)});
  count("RepeatPixels", "16x8x16",
        RepeatPixels{dtype_, 16, 8, 16, in(16 * 8 * 16), out(4 * 16 * 8 * 16)});
  count("SumPixels", "16x8x16",
        SumPixels{dtype_, 16, 8, 16, in(4 * 16 * 8 * 16), out(16 * 8 * 16)});
}

void Counter::heads() {
  const QkvShape shape{.tokens = 16, .heads = 4, .kv_heads = 2, .width = 64, .half = 32};
  const int64_t K = shape.width, R = shape.tokens * shape.half;
  const int64_t q = shape.tokens * shape.heads * K, kv = shape.tokens * shape.kv_heads * K;
  const int64_t norms = shape.tokens * (shape.heads + shape.kv_heads);
  for (const bool normed : {true, false}) {
    const void *q_weight = normed ? in(K) : nullptr, *k_weight = normed ? in(K) : nullptr;
    const std::string which = normed ? "" : "(no norm)";
    count(("QkNormRopeForward" + which).c_str(), "16x4/2x64",
          QkNormRopeForward{dtype_, shape, 1e-6, in(q + 2 * kv), q_weight, k_weight, acc(R), acc(R),
                            out(q), out(kv), out(kv), out(norms)});
    count(("QkNormRopeBackward" + which).c_str(), "16x4/2x64",
          QkNormRopeBackward{dtype_, shape, in(q + 2 * kv), q_weight, k_weight, acc(R), acc(R),
                             acc(norms), in(q), in(kv), in(kv), out(q + 2 * kv),
                             normed ? out(K) : nullptr, normed ? out(K) : nullptr,
                             normed ? out(kReductionBlocks * 3 * K) : nullptr});
  }
}

void Counter::elementwise() {
  const int64_t T = 32, H = 4, K = 32, n = T * H * K;
  std::vector<double> frequencies(K / 2, 0.01);
  std::vector<int32_t> axes(K / 2, 0);
  count("RopeAngles", "32x16",
        RopeAngles{dtype_, T, K / 2, 1.0, index(T, T), arena_.copy(frequencies), arena_.copy(axes),
                   out(T * K), out(T * K)});
  count("RopeRotate", "32x4x32",
        RopeRotate{dtype_, T, H, K, K / 2, false, in(n), acc(T * K), acc(T * K), out(n)});
  count("SwigluForward", "32x64", SwigluForward{dtype_, 32, 64, in(2 * 32 * 64), out(32 * 64)});
  count("SwigluBackward", "32x64",
        SwigluBackward{dtype_, 32, 64, in(2 * 32 * 64), in(32 * 64), out(2 * 32 * 64)});
  const std::pair<const char*, Activation> kinds[] = {{"silu", Activation::kSilu},
                                                      {"gelu", Activation::kGelu},
                                                      {"gelu_tanh", Activation::kGeluTanh},
                                                      {"quick_gelu", Activation::kQuickGelu}};
  for (const auto& [name, kind] : kinds) {
    count((std::string("ActivationForward(") + name + ")").c_str(), "4096",
          ActivationForward{dtype_, kind, n, in(n), out(n)});
    count((std::string("ActivationBackward(") + name + ")").c_str(), "4096",
          ActivationBackward{dtype_, kind, n, in(n), in(n), out(n)});
  }
}

void Counter::losses() {
  const int64_t R = 16, V = 256, n = R * V;
  const double* weights = arena_.copy(std::vector<double>(n, 0.0625));
  count("CrossEntropy", "16x256",
        CrossEntropy{dtype_, R, V, true, in(n), nullptr, index(R, V), weights, out(R)});
  count("WeightedSum", "4096", WeightedSum{dtype_, n, weights, acc(n), out(1)});
  count("SumOfSquares", "4096", SumOfSquares{dtype_, n, in(n), out(1)});
  for (const bool squared : {true, false}) {
    const std::string kind = squared ? "(squared)" : "(absolute)";
    count(("ErrorSum" + kind).c_str(), "4096",
          ErrorSum{dtype_, squared, n, 0.5, in(n), in(n), out(kReductionBlocks)});
    count(("ErrorSlope" + kind).c_str(), "4096",
          ErrorSlope{dtype_, squared, n, 0.5, in(n), in(n), acc(1), out(n), out(n)});
  }
}

void Counter::attention() {
  const int64_t T = 96, H = 4, G = 2, K = 32;
  const int32_t* cu = arena_.copy(std::vector<int32_t>{0, 64, 96});
  const AttentionShape shape{H, G, K, K, 2, cu, cu, 0.18, 0, true, -1, -1};
  count("AttentionForward", "64+32x4/2x32",
        AttentionForward{dtype_, shape, in(T * H * K), in(T * G * K), in(T * G * K), nullptr,
                         out(T * H * K), out(H * T), out(attention_forward_workspace(shape, 1))});
  count("AttentionBackward", "64+32x4/2x32",
        AttentionBackward{dtype_, shape, in(T * H * K), in(T * G * K), in(T * G * K), nullptr,
                          in(T * H * K), acc(H * T), in(T * H * K), out(T * H * K), out(T * G * K),
                          out(T * G * K), nullptr, out(attention_backward_workspace(shape, 1))});
}

void Counter::groups() {
  const int64_t M = 96, N = 80, K = 64;
  const int64_t* rows = arena_.copy(std::vector<int64_t>{0, 40, 40, 53, M});
  GroupedMatMul grouped{.dtype = dtype_,
                        .wide_out = false,
                        .axis = GroupedAxis::kRows,
                        .groups = 4,
                        .offsets = rows,
                        .m = M,
                        .n = N,
                        .k = K,
                        .a = in(M * K),
                        .a_m = K,
                        .a_k = 1,
                        .b = in(4 * N * K),
                        .b_group = N * K,
                        .b_n = K,
                        .b_k = 1,
                        .out = out(M * N),
                        .out_group = 0,
                        .out_m = N,
                        .workspace = nullptr};
  grouped.workspace = out(grouped_matmul_workspace(grouped, 1));
  count("GroupedMatMul", "40+0+13+43x80x64", grouped);
  grouped.wide_out = true;  // a weight's gradient
  grouped.axis = GroupedAxis::kTerms;
  grouped.m = N, grouped.n = K, grouped.k = M;
  grouped.a = in(M * N), grouped.a_m = 1, grouped.a_k = N;
  grouped.b = in(M * K), grouped.b_n = 1, grouped.b_k = K;
  grouped.out = out(4 * N * K), grouped.out_group = N * K, grouped.out_m = K;
  grouped.workspace = out(grouped_matmul_workspace(grouped, 1));
  count("GroupedMatMul(terms)", "80x64x40+0+13+43", grouped);
}

}  // namespace

int main() {
  omp_set_num_threads(1);
#pragma omp parallel
  { [[maybe_unused]] volatile int thread = omp_get_thread_num(); }
  for (const DType dtype : {DType::kFloat, DType::kBFloat16}) Counter(dtype).count_all();
}
