// SPDX-License-Identifier: Apache-2.0
/// What a kernel is told: one struct of plain pointers and sizes per kernel. No torch headers here.
///
/// `acc` in comments is max(float32, dtype): float for kFloat and kBFloat16, double for kDouble.
/// All arrays are contiguous and row-major unless strides are given. A null output is not computed.
#pragma once

#include <cstdint>

namespace veomni::ops::kernels {

enum class DType { kFloat, kDouble, kBFloat16 };

/// out[m, n] (+)= Σ_k a[m, k] · b[n, k], every operand with its own strides (in elements), out
/// row-major.
struct MatMul {
  DType dtype;      ///< of a and b
  bool wide_out;    ///< out is acc instead of dtype
  bool accumulate;  ///< += (needs wide_out)
  int64_t m, n, k;
  const void* a;
  int64_t a_m, a_k;
  const void* b;
  int64_t b_n, b_k;
  void* out;
  int64_t out_m;
  void* workspace;  ///< [matmul_workspace(...)] bytes
  // Added before the result is rounded, once; in a's dtype, null if there is none. Not with a bfloat16 product's wide result,
  // nor with accumulate.
  const void* bias = nullptr;      ///< [n]
  const void* residual = nullptr;  ///< [m, n], rows out_m apart; not out
  const void* packed_b =
      nullptr;  ///< b as PackMatrix lays it out at this level; b is not read then
};
/// Bytes of MatMul's workspace. `packed_b`: whether the product is given one.
int64_t matmul_workspace(DType dtype, bool wide_out, int64_t m, int64_t n, int64_t k, int threads,
                         bool packed_b = false);

/// out = b[n, k] as products read it: for matrices that many products share. The layout is the level's own.
struct PackMatrix {
  DType dtype;
  int64_t n, k;
  const void* b;
  int64_t b_n, b_k;
  void* out;  ///< [packed_bytes(...)] bytes, aligned to 64
};
int64_t packed_bytes(DType dtype, int64_t n, int64_t k);

/// Which axis of a product is cut into groups.
enum class GroupedAxis {
  kRows,   ///< out[m, n] = Σ_k a[m, k] · b[g, n, k], rows m of group g
  kTerms,  ///< out[g, m, n] = Σ_k a[m, k] · b[n, k], terms k of group g
};
/// A product for each group: `offsets` cut m or k, which are the sums over all groups.
struct GroupedMatMul {
  DType dtype;    ///< of a and b
  bool wide_out;  ///< out is acc instead of dtype
  GroupedAxis axis;
  int64_t groups;
  const int64_t* offsets;  ///< [groups + 1], from 0 to m or k
  int64_t m, n, k;
  const void* a;
  int64_t a_m, a_k;
  const void* b;
  int64_t b_group, b_n, b_k;  ///< b_group only with kRows
  void* out;
  int64_t out_group, out_m;  ///< out_group only with kTerms
  void* workspace;           ///< [grouped_matmul_workspace(...)] bytes
};
/// Bytes of GroupedMatMul's workspace; reads sizes and offsets of `args` alone.
int64_t grouped_matmul_workspace(const GroupedMatMul& args, int threads);

/// out[r, c] += bias[c]
struct AddBias {
  DType dtype;
  int64_t rows, width;
  const void* bias;
  void* out;
};

/// Sums over rows are split into at most this many blocks, whatever the thread count, so that it
/// changes no result.
inline constexpr int64_t kReductionBlocks = 64;

/// out[c] (acc) = Σ_r x[r, c]; workspace acc [kReductionBlocks, width]
struct ColumnSum {
  DType dtype;
  int64_t rows, width;
  const void* x;
  void* out;
  void* workspace;
};

/// out[r] = x[index[r]]
struct GatherRows {
  DType dtype;
  int64_t rows, width;
  const void* x;
  const int64_t* index;
  void* out;
};

/// out[t] = base[t] + Σ_{r: index[r] = t} rows[r], in acc, rounded once; base may be null (zeros).
struct ScatterAddRows {
  DType dtype;    ///< of rows and base
  bool wide_out;  ///< out is acc instead of dtype
  int64_t rows, width, targets;
  const void* source;
  const int64_t* index;
  const void* base;
  void* out;
  int64_t* workspace;  ///< [targets + 1 + rows]
};

/// out[index[r]] = source[r], or 0 where source is null; other rows of out stay.
struct PutRows {
  DType dtype;
  int64_t rows, width;
  const void* source;
  const int64_t* index;
  void* out;
};

/// One axis of a picture whose windows are laid out: tap k of window w reads position
/// (w · stride + k · step + offset) / divisor where that is whole and inside, and zero elsewhere.
struct WindowAxis {
  int64_t size, windows, taps;
  int64_t stride, step, offset, divisor;
};
/// out[r, i, j, :] = x[picture, y(i), x(j), :] for window r = first + 0 … rows, counted over
/// pictures, then vertical, then horizontal windows.
struct GatherWindows {
  DType dtype;
  int64_t first, rows, channels;
  WindowAxis vertical, horizontal;
  const void* x;
  void* out;
};

struct RmsNormForward {
  DType dtype;
  int64_t rows, width;
  double eps;
  const void* x;
  const void* weight;
  void* out;
  void* rstd;  ///< rstd acc [rows]
};
struct RmsNormBackward {
  DType dtype;
  int64_t rows, width;
  const void* x;
  const void* weight;
  const void* rstd;
  const void* dout;
  void* dx;
  void* dweight;    ///< dweight acc [width]
  void* workspace;  ///< acc [kReductionBlocks, width], with dweight
};
struct LayerNormForward {
  DType dtype;
  int64_t rows, width;
  double eps;
  const void* x;
  const void* weight;
  const void* bias;
  void* out;
  void* mean;
  void* rstd;
};
struct LayerNormBackward {
  DType dtype;
  int64_t rows, width;
  const void* x;
  const void* weight;
  const void* mean;
  const void* rstd;
  const void* dout;
  void* dx;
  void* dweight;
  void* dbias;
  void* workspace;  ///< acc [kReductionBlocks, 2, width], with dweight or dbias
};

/// A convolution of stride 1 over pictures [pictures, height, width, channels].
struct ConvolveShape {
  int64_t pictures, height, width, channels;
  int64_t out_height, out_width, features;
  int64_t kernel_h, kernel_w, pad_top, pad_left;  ///< padding may be negative: it crops then
};
/// Whether a band of lines of these fits a core's cache, as Convolve needs it.
bool fits_convolve(const ConvolveShape& shape);
/// out[n, h, w, o] = bias[o] + Σ x[n, h + i − pad_top, w + j − pad_left, c] · weight(o, c, i, j),
/// rounded once.
struct Convolve {
  DType dtype;
  ConvolveShape shape;
  const void* x;
  const void* weight;                              ///< element (0, 0, 0, 0)
  int64_t weight_o, weight_c, weight_i, weight_j;  ///< its strides in elements
  const void* bias;                                ///< or null
  void* out;
  void* workspace;  ///< acc [convolve_workspace(...)]
};
int64_t convolve_workspace(const ConvolveShape& shape, int threads);
/// dweight[o, c, i, j] (acc) = Σ dout[n, h, w, o] · x[n, h + i − pad_top, w + j − pad_left, c]
struct ConvolveWeight {
  DType dtype;
  ConvolveShape shape;
  const void* x;
  const void* dout;
  void* dweight;
  void* workspace;  ///< acc [convolve_weight_workspace(...)]
};
int64_t convolve_weight_workspace(const ConvolveShape& shape, int threads);

/// Pictures [pictures, pixels, channels] normalised over all pixels of groups of channels.
struct GroupShape {
  int64_t pictures, pixels, channels, groups;
  bool silu;  ///< x · sigmoid(x) of the result
};
struct GroupNormForward {
  DType dtype;
  GroupShape shape;
  double eps;
  const void* x;
  const void* weight;
  const void* bias;
  void* out;
  void* mean;
  void* rstd;       ///< mean and rstd acc [pictures, groups]
  void* workspace;  ///< acc [pictures, 2, channels]
};
/// Rows of channels that the backward pass of group norm needs for each picture.
inline constexpr int64_t kGroupNormSums = 6;
struct GroupNormBackward {
  DType dtype;
  GroupShape shape;
  const void* x;
  const void* weight;
  const void* bias;
  const void* mean;
  const void* rstd;
  const void* dout;
  void* dx;
  void* dweight;
  void* dbias;
  void* workspace;  ///< acc [pictures, kGroupNormSums, channels]
};

/// angle = acc(position) * acc(inv_freq); cos and sin [tokens, freqs], acc, times scaling
struct RopeAngles {
  DType dtype;
  int64_t tokens, freqs;
  double scaling;
  const int64_t* position;  ///< [axes, tokens]
  const double* inv_freq;   ///< [freqs]
  const int32_t* axis;      ///< [freqs]: whose positions turn each
  void* cos;
  void* sin;
};
struct RopeRotate {
  DType dtype;
  int64_t tokens, heads, width, half;
  bool inverse;
  const void* x;
  const void* cos;
  const void* sin;  ///< cos and sin acc
  void* out;
};

/// Rows of `heads` heads of q, then `kv_heads` of k, then as many of v, each of `width`.
struct QkvShape {
  int64_t tokens, heads, kv_heads, width;
  int64_t half;  ///< dimension i turns with dimension i + half
};
/// q and k as RmsNormForward and then RopeRotate make them, and v, each alone.
struct QkNormRopeForward {
  DType dtype;
  QkvShape shape;
  double eps;
  const void* qkv;
  const void* q_weight;  ///< [width], or null: no norm
  const void* k_weight;
  const void* cos;
  const void* sin;  ///< cos and sin acc [tokens, half]
  void* q;
  void* k;
  void* v;
  void* rstd;  ///< acc [tokens, heads + kv_heads], where there is a norm; null without any
};
struct QkNormRopeBackward {
  DType dtype;
  QkvShape shape;
  const void* qkv;  ///< read only where there is a norm
  const void* q_weight;
  const void* k_weight;
  const void* cos;
  const void* sin;
  const void* rstd;
  const void* dq;  ///< null: zeros; so are dk and dv
  const void* dk;
  const void* dv;
  void* dqkv;
  void* dq_weight;
  void* dk_weight;  ///< both acc [width]
  void* workspace;  ///< acc [kReductionBlocks, 3, width], with a norm
};

struct SwigluForward {
  DType dtype;
  int64_t rows, width;
  const void* gate_up;
  void* out;
};
struct SwigluBackward {
  DType dtype;
  int64_t rows, width;
  const void* gate_up;
  const void* dout;
  void* dgate_up;
};
enum class Activation { kSilu, kGelu, kGeluTanh, kQuickGelu };
struct ActivationForward {
  DType dtype;
  Activation kind;
  int64_t count;
  const void* x;
  void* out;
};
struct ActivationBackward {
  DType dtype;
  Activation kind;
  int64_t count;
  const void* x;
  const void* dout;
  void* dx;
};

/// Per row: logits += bias, loss = log Σ exp(logits) − logits[label]; with `gradient`, logits become
/// weight · (softmax − onehot).
struct CrossEntropy {
  DType dtype;
  int64_t rows, width;
  bool gradient;
  void* logits;
  const void* bias;  ///< [width] of the logits' type, or null
  const int64_t* label;
  const double* weight;  ///< [rows]
  void* loss;            ///< acc [rows]
};
/// out[0] (acc) = Σ weight · x (acc), summed in order in double.
struct WeightedSum {
  DType dtype;
  int64_t count;
  const double* weight;
  const void* x;
  void* out;
};

/// Lines [lines, width, channels]: every pixel of a line into two neighbours in each of two lines.
struct RepeatPixels {
  DType dtype;
  int64_t lines, width, channels;
  const void* x;
  void* out;  ///< [2 · lines, 2 · width, channels]
};
/// out[l, w] = the sum of the four pixels of x that RepeatPixels makes of one.
struct SumPixels {
  DType dtype;
  int64_t lines, width, channels;  ///< of out
  const void* x;
  void* out;
};
/// Of each group of rows, out = x - the mean of its rows.
struct CenterRows {
  DType dtype;
  int64_t groups, rows, width;
  const void* x;
  void* out;
};
/// out[i] = (x[2i] + x[2i + 1]) / 2
struct MeanPairs {
  DType dtype;
  int64_t pairs, width;
  const void* x;
  void* out;
};
/// out[2i] = out[2i + 1] = x[i] / 2
struct SpreadPairs {
  DType dtype;
  int64_t pairs, width;
  const void* x;
  void* out;
};

/// index[r] = argmin_c Σ_e (x[r, e] − codebook[c, e])², the lowest of equals.
struct NearestCode {
  DType dtype;
  int64_t rows, codes, width;
  const void* x;
  const void* codebook;
  int64_t* index;
  void* workspace;  ///< acc [nearest_code_workspace(...)]
};
int64_t nearest_code_workspace(int64_t codes, int64_t width);

/// out = x / max(norm, eps), norm[r] = ‖x[r]‖₂
struct NormalizeForward {
  DType dtype;
  int64_t rows, width;
  double eps;
  const void* x;
  void* out;
  void* norm;  ///< acc [rows]
};
struct NormalizeBackward {
  DType dtype;
  int64_t rows, width;
  double eps;
  const void* x;
  const void* norm;
  const void* dout;
  void* dx;
};
/// Elements that one partial sum covers, whatever number of threads computes them.
inline constexpr int64_t kSquaresStretch = 1 << 16;
/// sums[s] (double) = Σ x² over stretch s.
struct SumOfSquares {
  DType dtype;
  int64_t count;
  const void* x;
  void* sums;
};
/// out[0] (acc) = scale · Σ (a − b)², or of |a − b|.
struct ErrorSum {
  DType dtype;
  bool squared;
  int64_t count;
  double scale;
  const void* a;
  const void* b;
  void* out;
};
struct ErrorSlope {
  DType dtype;
  bool squared;
  int64_t count;
  double scale;
  const void* a;
  const void* b;
  const void* dout;  ///< acc [1]
  void* da;
  void* db;
};

/// Packed sequences and what their queries may see; see attention.h.
struct AttentionShape {
  int64_t heads, kv_heads, k_width, v_width, segments;
  const int32_t* cu_q;
  const int32_t* cu_k;
  double scale, softcap;
  bool causal;
  int64_t window_left, window_right;
};
struct AttentionForward {
  DType dtype;
  AttentionShape shape;
  const void* q;
  const void* k;
  const void* v;
  const void* sinks;  ///< acc [heads] or null
  void* out;
  void* lse;        ///< lse acc [heads, T]
  void* workspace;  ///< acc [attention_forward_workspace(...)]
};
struct AttentionBackward {
  DType dtype;
  AttentionShape shape;
  const void* q;
  const void* k;
  const void* v;
  const void* sinks;
  const void* out;
  const void* lse;
  const void* dout;
  void* dq;
  void* dk;
  void* dv;
  void* dsinks;     ///< acc [heads] or null
  void* workspace;  ///< acc [attention_backward_workspace(...)]
};
int64_t attention_forward_workspace(const AttentionShape& shape, int threads);
int64_t attention_backward_workspace(const AttentionShape& shape, int threads);

}  // namespace veomni::ops::kernels
