// Attention over lists of keys on the CPU: the arithmetic, free of torch, for one unit of queries at a time.
//
//   AttentionScratch scratch;                                   // one for each thread
//   AttentionForward(arguments, unit, kv_head, scratch);        // writes the unit's rows of out, for the heads of
//   kv_head
//
// For query i and the entries e of the unit that it is in, with row j = e.row,
//
//   logit = scale q_i.k_j + bias_j + score_e,    lse_i = log sum exp(logit),    out_i = sum exp(logit - lse_i) v_j .
//
// A query without entries, or with nothing but biases of minus infinity, gets zeros and lse = -infinity. Logits are
// float whatever the type, the sums too. Different units and kv_heads touch different memory in the forward pass and
// may be computed by different threads. In the backward pass units of one utterance and kv_head add to the same
// gradients: compute them one after the other, in order, and the result is the same to the bit every time.
//
// The instructions are chosen at run time (ChooseSimdLevel); every level computes the same to rounding.
#pragma once

#include <cstdint>
#include <memory>

#include "src/attention/key_units.h"
#include "src/base/simd_level.h"

namespace earshot {

enum class KernelType { kFloat, kBFloat16 };

inline constexpr int kMaxHeadDim = 256;

// Element (frame, head, channel) lies at data[frame * frame_stride + head * head_stride + channel]; strides in
// elements.
struct ConstHeadsView {
  const void* data = nullptr;
  int64_t frame_stride = 0, head_stride = 0;
};
struct HeadsView {
  void* data = nullptr;
  int64_t frame_stride = 0, head_stride = 0;
};

// One utterance.
struct AttentionArguments {
  KernelType type = KernelType::kFloat;  // of q, k, v and out
  int heads = 1;
  int kv_heads = 1;   // divides heads; query head h reads key head h / (heads / kv_heads)
  int head_dim = 64;  // any from 1 to kMaxHeadDim
  float scale = 1;
  ConstHeadsView q, k, v;
  const float* bias = nullptr;    // of each row of k, natural log; null: none
  const float* scores = nullptr;  // what KeyEntry::score indexes
  HeadsView out;
  float* lse = nullptr;  // (heads, lse_stride), of each query; null: not wanted
  int64_t lse_stride = 0;
};

// What the backward pass adds to the forward arguments (out and lse are those that the forward pass wrote).
struct AttentionGradients {
  ConstHeadsView grad_out;  // of the arguments' type
  HeadsView grad_q;         // of the arguments' type; the unit's rows are written
  // Float, added to: element (kv_head, row, channel) at [kv_head * head_stride + row * frame_stride + channel].
  HeadsView grad_k, grad_v;
  float* grad_bias = nullptr;  // (kv_heads, bias_stride), added to; null: not wanted
  int64_t bias_stride = 0;
  float* grad_scores = nullptr;  // (kv_heads, scores_stride), added to; null: not wanted
  int64_t scores_stride = 0;
};

// Packed keys, scores and sums of one thread; grows to what the largest unit needs, however long its list: at most some
// 0.7 MB for heads of 64 channels, 2 MB for 256, and twice as much for gradients of floats by AMX.
class AttentionScratch {
 public:
  AttentionScratch();
  ~AttentionScratch();
  AttentionScratch(AttentionScratch&&) noexcept;
  AttentionScratch& operator=(AttentionScratch&&) noexcept;
  // At least `bytes` of memory, aligned to 64. What was there is lost.
  void* Reserve(int64_t bytes);

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};

void AttentionForward(const AttentionArguments& arguments, const KeyUnit& unit, int kv_head, AttentionScratch& scratch);
void AttentionBackward(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnit& unit,
                       int kv_head, AttentionScratch& scratch);

// The same at a given level, which must be supported here. For tests and benchmarks.
void AttentionForward(SimdLevel level, const AttentionArguments& arguments, const KeyUnit& unit, int kv_head,
                      AttentionScratch& scratch);
void AttentionBackward(SimdLevel level, const AttentionArguments& arguments, const AttentionGradients& gradients,
                       const KeyUnit& unit, int kv_head, AttentionScratch& scratch);

}  // namespace earshot
