#include "src/attention/cuda/attention_cuda.h"

#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {
namespace {

bool Aligned(const CudaConstHeads& heads) {
  return reinterpret_cast<uintptr_t>(heads.data) % 16 == 0 && heads.frame_stride % 8 == 0 && heads.head_stride % 8 == 0;
}
bool Aligned(const CudaHeads& heads) {
  return Aligned(CudaConstHeads{heads.data, heads.frame_stride, heads.head_stride});
}

template <class Heads>
bool InRange(const Heads& heads) {
  return heads.frame_stride > -kCudaEndless && heads.frame_stride < kCudaEndless;
}

int CheckLists(const CudaKeyLists& lists) {
  if (lists.num_tiles < 0 || lists.capacity < 0 || lists.capacity >= INT32_MAX) return kListsOutOfRange;
  if (lists.num_tiles > 0 && (!lists.tiles || !lists.tile_offsets)) return kNullPointer;
  return lists.capacity > 0 && !lists.entries ? kNullPointer : 0;
}

int Check(const CudaAttentionArguments& a) {
  if (a.head_dim < 4 || a.head_dim > 128 || a.head_dim % 4 != 0) return kHeadDimOutOfRange;
  if (a.heads < 1 || a.kv_heads < 1 || a.heads > 65535 || a.heads % a.kv_heads != 0) return kHeadsDoNotDivide;
  if (a.element != CudaElement::kBFloat16 && a.element != CudaElement::kFloat16) return kUnknownElement;
  if (a.num_queries < 0 || a.num_keys < 0 || a.num_queries >= kCudaEndless || a.num_keys >= kCudaEndless)
    return kRowsOutOfRange;
  if (!InRange(a.q) || !InRange(a.k) || !InRange(a.v) || !InRange(a.out)) return kStrideOutOfRange;
  const bool no_queries = a.num_queries > 0 && (!a.q.data || !a.out.data);
  const bool no_keys = a.num_keys > 0 && (!a.k.data || !a.v.data);
  if (no_queries || no_keys || !a.rotary.cosines != !a.rotary.sines) return kNullPointer;
  return CheckLists(a.lists);
}

Problem ProblemOf(const CudaAttentionArguments& a) {
  Problem problem;
  problem.arguments = a;
  const bool rotates = a.rotary.cosines != nullptr;
  problem.fast = Aligned(a.q) && Aligned(a.k) && Aligned(a.v) && a.head_dim % (rotates ? 16 : 8) == 0;
  if (rotates) {
    problem.fast = problem.fast && reinterpret_cast<uintptr_t>(a.rotary.cosines) % 16 == 0 &&
                   reinterpret_cast<uintptr_t>(a.rotary.sines) % 16 == 0;
  }
  problem.fast_out = Aligned(a.out);
  problem.log2_scale = a.scale * kLog2e;
  // Where the scale is not positive, logits are made before they are compared, as with biases.
  problem.biased = a.bias || a.scores || !(a.scale > 0);
  return problem;
}

int Forward(const CudaAttentionArguments& arguments, void* stream) {
  EARSHOT_CUDA_TRY(Check(arguments));
  return RunForward(ProblemOf(arguments), stream);
}

int Check(const CudaGradientArguments& a, bool by_window) {
  EARSHOT_CUDA_TRY(Check(a.forward));
  const bool no_queries = a.forward.num_queries > 0 && (!a.forward.lse || !a.grad_out.data || !a.grad_q.data);
  const bool no_keys = a.forward.num_keys > 0 && (!a.grad_k.data || !a.grad_v.data);
  if (no_queries || no_keys) return kNullPointer;
  if (!InRange(a.grad_out) || !InRange(a.grad_q) || !InRange(a.grad_k) || !InRange(a.grad_v)) return kStrideOutOfRange;
  const CudaTransposedLists& t = a.transposed;
  if (!by_window && a.forward.num_keys > 0 && (!t.row_order || !t.segment_offsets)) return kNullPointer;
  if (a.grad_scores && (a.num_scores < 0 || !a.forward.scores || !t.score_offsets)) return kNoScores;
  return 0;
}

GradientProblem ProblemOf(const CudaGradientArguments& a) {
  GradientProblem problem = {};
  problem.forward = ProblemOf(a.forward);
  problem.transposed = a.transposed, problem.window = a.window;
  problem.grad_out = a.grad_out;
  problem.grad_q = a.grad_q, problem.grad_k = a.grad_k, problem.grad_v = a.grad_v;
  problem.grad_bias = a.grad_bias, problem.bias_stride = a.bias_stride;
  problem.grad_scores = a.grad_scores, problem.scores_stride = a.scores_stride, problem.num_scores = a.num_scores;
  problem.fast_grad_out = Aligned(a.grad_out) && a.forward.head_dim % 8 == 0;
  problem.fast_grad_q = Aligned(a.grad_q), problem.fast_grad_k = Aligned(a.grad_k);
  problem.fast_grad_v = Aligned(a.grad_v);
  return problem;
}

bool TakesWindow(const CudaGradientArguments& a) { return HopperTakesWindow(ProblemOf(a)); }

// What the backward pass keeps in memory while it runs.
int64_t LayOut(void* memory, bool by_window, GradientProblem* problem) {
  const CudaAttentionArguments& a = problem->forward.arguments;
  Carver carver(memory);
  if (by_window) {
    problem->window_runs = carver.Take<WindowRun>(CountWindowRuns(*problem));
  } else {
    problem->statistics = carver.Take<Pair32>(static_cast<int64_t>(a.heads) * a.num_queries);
    if (problem->grad_scores) problem->entry_gradients = carver.Take<float>(a.kv_heads * a.lists.capacity);
  }
  return carver.bytes();
}

int64_t BackwardBytes(const CudaGradientArguments& arguments) {
  GradientProblem problem = ProblemOf(arguments);
  const bool by_window = HopperTakesWindow(problem);
  EARSHOT_CUDA_TRY(Check(arguments, by_window));
  return LayOut(nullptr, by_window, &problem);
}

int Backward(const CudaGradientArguments& a, void* memory, void* stream) {
  GradientProblem problem = ProblemOf(a);
  const bool by_window = HopperTakesWindow(problem);
  EARSHOT_CUDA_TRY(Check(a, by_window));
  if (LayOut(memory, by_window, &problem) > 0 && !memory) return kNullPointer;
  if (by_window) return RunHopperWindowGradients(problem, stream);
  if (HopperTakes(problem)) {
    EARSHOT_CUDA_TRY(RunHopperQueryGradients(problem, stream));
    EARSHOT_CUDA_TRY(RunHopperKeyGradients(problem, stream));
  } else {
    EARSHOT_CUDA_TRY(RunPreprocess(problem, stream));
    EARSHOT_CUDA_TRY(RunQueryGradients(problem, stream));
    EARSHOT_CUDA_TRY(RunKeyGradients(problem, stream));
  }
  return RunScoreGradients(problem, stream);
}

const char* Message(int error) {
  switch (error) {
    case 0: return "no error";
    case kHeadDimOutOfRange: return "head_dim must be a multiple of 4 from 4 to 128";
    case kHeadsDoNotDivide: return "heads must be 1 to 65535 and a multiple of kv_heads";
    case kUnknownElement: return "element must be bfloat16 or float16";
    case kRowsOutOfRange: return "rows must be fewer than 2^30";
    case kStrideOutOfRange: return "the strides of frames must be within 2^30";
    case kListsOutOfRange: return "the lists need fewer than 2^31 entries; use fewer frames at once";
    case kNullPointer: return "an array that is needed is null";
    case kTermsOutOfRange:
      return "a term needs chunk and step of 1 or more, and distances within 2^30; at most 16 terms";
    case kTilesDiffer: return "the lists that are added have other tiles than the utterances give";
    case kNoScores: return "gradients of scores need transposed lists with scores";
    default: break;
  }
#if defined(__CUDACC__)
  if (error > 0) return cudaGetErrorString(static_cast<cudaError_t>(error));
#endif
  return "unknown error";
}

}  // namespace
}  // namespace earshot::cuda

extern "C" __attribute__((visibility("default"))) const earshot::CudaAttentionTable* EarshotCudaAttention() {
  static const earshot::CudaAttentionTable table = {
      .key_lists_bytes = earshot::cuda::KeyListsBytes,
      .build_key_lists = earshot::cuda::BuildKeyLists,
      .transposed_lists_bytes = earshot::cuda::TransposedListsBytes,
      .build_transposed_lists = earshot::cuda::BuildTransposedLists,
      .forward = earshot::cuda::Forward,
      .takes_window = earshot::cuda::TakesWindow,
      .backward_bytes = earshot::cuda::BackwardBytes,
      .backward = earshot::cuda::Backward,
      .message = earshot::cuda::Message,
  };
  return &table;
}
