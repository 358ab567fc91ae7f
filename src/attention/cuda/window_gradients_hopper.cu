#include "src/attention/cuda/window_gradients_hopper.cuh"

#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"
#include "src/attention/cuda/scan_sort.h"

namespace earshot::cuda {
namespace {

int64_t PairsOf(int64_t length) { return Blocks(length, HopperWindowShape::kPair); }

// As long as the device needs to have work for all of its multiprocessors: short runs compute more of what their
// neighbours compute as well.
int32_t PairsOfRun(const GradientProblem& p) {
  int64_t pairs = 0;
  for (int32_t u = 0; u < p.window.num_utterances; ++u) pairs += PairsOf(p.window.host_utterances[u].length);
  const int64_t of_one = Blocks(pairs * p.forward.arguments.heads, CurrentDevice().multiprocessors);
  return static_cast<int32_t>(Max<int64_t>(of_one, 2));
}

__global__ void WindowRunsKernel(CudaWindow window, int32_t pairs_of_run, int32_t num_runs, WindowRun* runs) {
  const auto run = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (run >= num_runs) return;
  int32_t before = 0;
  for (int32_t u = 0; u < window.num_utterances; ++u) {
    const CudaUtterance of = window.device_utterances[u];
    const int32_t pairs = (of.length + HopperWindowShape::kPair - 1) / HopperWindowShape::kPair;
    const int32_t own = (pairs + pairs_of_run - 1) / pairs_of_run;
    if (run < before + own) {
      const int32_t first = (run - before) * pairs_of_run;
      runs[run] = {of.start, of.length, first, Min(first + pairs_of_run, pairs)};
      return;
    }
    before += own;
  }
}

// The keys between utterance blockIdx.x - 1 and the next, which nobody sees, of head blockIdx.y.
__global__ void WindowGapsKernel(const __grid_constant__ GradientProblem p) {
  const auto next = static_cast<int32_t>(blockIdx.x), head = static_cast<int32_t>(blockIdx.y);
  const CudaUtterance* utterances = p.window.device_utterances;
  const CudaUtterance before = next > 0 ? utterances[next - 1] : CudaUtterance{0, 0};
  const int32_t end = next < p.window.num_utterances ? utterances[next].start : p.forward.arguments.num_keys;
  const MutableRows grad_k = HeadOf(p.grad_k, head), grad_v = HeadOf(p.grad_v, head);
  for (int32_t row = before.start + before.length; row < end; ++row) {
    for (int channel = static_cast<int>(threadIdx.x) * 8; channel < p.forward.arguments.head_dim;
         channel += kWarp * 8) {
      *reinterpret_cast<Octet16*>(grad_k.At(row, channel)) = Octet16{};
      *reinterpret_cast<Octet16*>(grad_v.At(row, channel)) = Octet16{};
    }
    if (p.grad_bias && threadIdx.x == 0) (p.grad_bias + head * p.bias_stride)[row] = 0;
  }
}

// Whether few enough parts see keys of two pairs in a row, and of both of them.
bool FewParts(const CudaTerm& term, int32_t length) {
  using Shape = HopperWindowShape;
  // The same again after as many pairs as a chunk has positions.
  const int64_t borders = Min<int64_t>(PairsOf(length) - 1, term.chunk);
  for (int32_t pair = 0; pair < borders; ++pair) {
    const int32_t first = pair * Shape::kPair, next = first + Shape::kPair;
    const Run of_any = PartsOf(term, first, Min(next + Shape::kPair, length) - 1, length);
    const Run of_both = {PartsOf(term, next, next, length).first, PartsOf(term, next - 1, next - 1, length).end};
    if (of_any.end - of_any.first > Shape::kParts || of_both.end - of_both.first > Shape::kLive) return false;
  }
  return true;
}

}  // namespace

bool HopperTakesWindow(const GradientProblem& problem) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  const CudaWindow& window = problem.window;
  const CudaTerm& term = window.term;
  if (window.num_utterances == 0 || !window.host_utterances || !window.device_utterances) return false;
  if (a.heads != a.kv_heads || a.num_queries != a.num_keys || a.scores || a.query_values) return false;
  // Each query has to see its own position.
  if (!HopperTakes(problem) || term.step != 1 || term.from > 0 || term.to < term.chunk - 1) return false;
  for (int32_t u = 0; u < window.num_utterances; ++u)
    if (!FewParts(term, window.host_utterances[u].length)) return false;
  return true;
}

int64_t CountWindowRuns(const GradientProblem& problem) {
  const int32_t pairs_of_run = PairsOfRun(problem);
  int64_t runs = 0;
  for (int32_t u = 0; u < problem.window.num_utterances; ++u)
    runs += Blocks(PairsOf(problem.window.host_utterances[u].length), pairs_of_run);
  return runs;
}

int RunHopperWindowGradients(const GradientProblem& p, void* stream) {
  using Shape = HopperWindowShape;
  const CudaAttentionArguments& a = p.forward.arguments;
  const CudaWindow& window = p.window;
  const auto num_runs = static_cast<int32_t>(CountWindowRuns(p));
  EARSHOT_CUDA_TRY(Launch(WindowRunsKernel, {Blocks(num_runs, kThreads)}, kThreads, 0, stream, window, PairsOfRun(p),
                          num_runs, p.window_runs));
  int32_t rows = 0;
  for (int32_t u = 0; u < window.num_utterances; ++u) rows += window.host_utterances[u].length;
  if (rows < a.num_keys)
    EARSHOT_CUDA_TRY(Launch(WindowGapsKernel, {window.num_utterances + 1, a.heads}, kWarp, 0, stream, p));
  const int items = num_runs * a.heads;
  const auto run = [&](auto kernel) {
    return Launch(kernel, {Min(items, CurrentDevice().multiprocessors)}, Shape::kThreads, Shape::kSharedBytes, stream,
                  p, items);
  };
  return a.element == CudaElement::kBFloat16 ? run(HopperWindowGradientsKernel<BFloat16>)
                                             : run(HopperWindowGradientsKernel<Float16>);
}

}  // namespace earshot::cuda
