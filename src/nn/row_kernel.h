// What a conformer block does between its matrix products: the arithmetic, free of torch, on rows of channels.
//
//   AddNormArguments a{.dim = 256, .x = x, .y = {.data = y, .type = RowType::kBFloat16}, .alpha = 0.5F, ...};
//   GetRowKernels(ChooseSimdLevel()).add_norm(a, 0, num_rows, scratch);
//
// Every function computes the rows [begin, end) of its arguments, so that threads may share them out; rows may be
// written where they were read. All arithmetic is float, whatever is read and written. `scratch`: room of the calling
// thread, as many floats as the function says, aligned to 64.
//
// row_kernel_lanes.h is the one source; row_kernel_{baseline,avx2,avx512,avx512bf16}.cc compile it for 4, 8 and 16
// lanes. As they use instructions that not every CPU has and share no template with other files, all here is plain
// pointers.
#pragma once

#include <cstdint>

#include "src/base/simd_level.h"

namespace earshot {

enum class RowType { kFloat, kBFloat16, kInt8 };

// What is read: (rows, width) of float or bf16, one row after the other. The value of element (t, c) is
// data[t][c] scale[t] + bias[c]: an int8 matrix product leaves both to its reader.
struct RowSource {
  const void* data = nullptr;
  RowType type = RowType::kFloat;
  const float* scale = nullptr;  // (rows); null: 1
  const float* bias = nullptr;   // (width); null: 0
};

// What is written: (rows, width). int8: data[t][c] = round(value / scale[t]), scale[t] = max |value| / 127.
struct RowTarget {
  void* data = nullptr;
  RowType type = RowType::kFloat;
  float* scale = nullptr;  // (rows), of int8 alone
};

// LayerNorm over the channels, with weight and bias of (width).
struct RowNorm {
  const float* weight = nullptr;  // null: no norm
  const float* bias = nullptr;
  float eps = 1e-5F;
};

// sum = sum_norm(x + alpha gate y), out = norm(sum).
struct AddNormArguments {
  int64_t dim = 0;
  const float* x = nullptr;  // (rows, dim)
  RowSource y;               // no data: nothing is added
  float alpha = 1;
  const float* gate = nullptr;  // (rows); null: 1
  RowNorm sum_norm;
  float* sum = nullptr;  // (rows, dim), may be x; null: not wanted
  RowNorm norm;
  RowTarget out;  // no data: not wanted
};

// out = in, or SiLU(in) = in / (1 + exp(-in)) (Elfwing et al. 2017), or ReLU(in).
enum class RowFunction { kNone, kSilu, kRelu };
struct MapArguments {
  int64_t dim = 0;
  RowFunction function = RowFunction::kNone;
  RowSource in;
  RowTarget out;
};

// out = mask a sigmoid(b) with in = (a, b): Dauphin et al. 2016.
struct GluArguments {
  int64_t dim = 0;              // of the output
  RowSource in;                 // (rows, 2 dim)
  const float* mask = nullptr;  // (rows); null: 1
  float* out = nullptr;         // (rows, dim)
};

// A depthwise convolution over time, its LayerNorm and SiLU. Row t of the output is that of frame t,
//   out_t = SiLU(norm(bias + sum_k weight_k in_(t + k - before))),    in_j = 0 unless 0 <= j < min(rows, end of t's
//   chunk).
inline constexpr int kDepthwiseTile = 8;       // frames whose sums are in registers
inline constexpr int kDepthwiseFrames = 16;    // frames computed at a time
inline constexpr int kDepthwiseChannels = 16;  // channels whose weights stand together
struct DepthwiseArguments {
  int64_t dim = 0;
  int64_t rows = 0;    // of the input
  int64_t kernel = 1;  // taps
  int64_t before = 0;
  const int64_t* ends = nullptr;  // (rows of out): the input row before which what each sees ends; null: all
  // (ceil(dim / 16), kernel + 2 (tile - 1), 16): the taps between tile - 1 zeros on either side. See PackDepthwise.
  const float* weight = nullptr;
  const float* bias = nullptr;  // (dim); null: 0
  const float* in = nullptr;    // (rows, dim)
  RowNorm norm;                 // no norm, no SiLU
  int64_t first = 0;            // the frame that out's first row is
  RowTarget out;
};

// Rotary positions: the first half of a head's channels turned against the second,
//   out = (a cos - b sin, b cos + a sin)    with in = (a, b).
struct RotateArguments {
  int64_t heads = 0;           // of a row
  int64_t rotated = 0;         // the first of them; the others stay as they are
  int64_t head_dim = 0;        // even
  int64_t frames = 1;          // row t has the angles of t % frames
  RowSource in;                // (rows, heads x head_dim)
  const float* cos = nullptr;  // (frames, head_dim / 2)
  const float* sin = nullptr;
  RowTarget out;  // may be where `in` is; float or bf16, as it is
};

// A 3 x 3 convolution of one channel with stride 2, and ReLU; channels last, frequency padded by 1, time not.
struct FirstConvolutionArguments {
  int64_t bins = 0, channels = 0;
  const float* in = nullptr;      // (2 rows + 1, bins)
  const float* weight = nullptr;  // (9, channels), time before frequency
  const float* bias = nullptr;    // (channels)
  float* out = nullptr;           // (rows, (bins + 1) / 2, channels)
};

// A depthwise 3 x 3 convolution with stride 2; channels last, frequency padded by 1, time not.
struct DepthwiseStrideArguments {
  int64_t bins = 0, channels = 0;
  RowSource in;  // (2 rows + 1, bins, channels), scale and bias unused
  const float* weight = nullptr;
  const float* bias = nullptr;
  RowTarget out;  // (rows, (bins + 1) / 2, channels), float or bf16
};

struct RowKernels {
  void (*add_norm)(const AddNormArguments&, int64_t begin, int64_t end, float* scratch);  // dim
  void (*map)(const MapArguments&, int64_t begin, int64_t end, float* scratch);           // dim
  void (*glu)(const GluArguments&, int64_t begin, int64_t end);
  void (*depthwise)(const DepthwiseArguments&, int64_t begin, int64_t end,
                    float* scratch);  // kDepthwiseFrames x (dim + 16)
  void (*rotate)(const RotateArguments&, int64_t begin, int64_t end);
  void (*first_convolution)(const FirstConvolutionArguments&, int64_t begin, int64_t end);
  void (*depthwise_stride)(const DepthwiseStrideArguments&, int64_t begin, int64_t end);
};

// Those of the best level that is built and not above `level`, which must be supported here.
const RowKernels& GetRowKernels(SimdLevel level);

// weight: (dim, kernel), as a Conv1d with one group for each channel has it. packed: as DepthwiseArguments say.
void PackDepthwise(const float* weight, int64_t dim, int64_t kernel, float* packed);
int64_t PackedDepthwiseSize(int64_t dim, int64_t kernel);

}  // namespace earshot
