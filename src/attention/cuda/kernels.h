// What the sources of the library give each other; attention_cuda.cu makes the public table of it. Each returns 0, a
// cudaError_t, or one of the errors below.
#pragma once

#include <cstdint>

#include "src/attention/cuda/attention_cuda.h"

namespace earshot::cuda {

enum Error : int {
  kHeadDimOutOfRange = -1,
  kHeadsDoNotDivide = -2,
  kUnknownElement = -3,
  kRowsOutOfRange = -4,
  kListsOutOfRange = -5,
  kNullPointer = -6,
  kTermsOutOfRange = -7,
  kTilesDiffer = -8,
  kNoScores = -9,
  kStrideOutOfRange = -10,
};

struct Problem;
struct GradientProblem;

// The functions of the table.
int64_t KeyListsBytes(const CudaListArguments& arguments);
int BuildKeyLists(const CudaListArguments& arguments, void* memory, CudaKeyLists* lists, void* stream);
int64_t TransposedListsBytes(const CudaTransposeArguments& arguments);
int BuildTransposedLists(const CudaTransposeArguments& arguments, void* memory, CudaTransposedLists* lists,
                         void* stream);

// Arguments have been checked.
int RunForward(const Problem& problem, void* stream);
// The statistics of queries, their gradients, those of keys, values and biases, and of scores; in this order.
int RunPreprocess(const GradientProblem& problem, void* stream);
int RunQueryGradients(const GradientProblem& problem, void* stream);
int RunKeyGradients(const GradientProblem& problem, void* stream);
int RunScoreGradients(const GradientProblem& problem, void* stream);
// Whether the kernels for compute capability 9.0 take the problem, and their runs; the gradients of queries come with
// their statistics.
bool HopperTakes(const Problem& problem);
bool HopperTakes(const GradientProblem& problem);
int RunHopperForward(const Problem& problem, void* stream);
int RunHopperQueryGradients(const GradientProblem& problem, void* stream);
int RunHopperKeyGradients(const GradientProblem& problem, void* stream);
// Whether it takes the problem by its window, how many runs that makes, and all gradients at once.
bool HopperTakesWindow(const GradientProblem& problem);
int64_t CountWindowRuns(const GradientProblem& problem);
int RunHopperWindowGradients(const GradientProblem& problem, void* stream);

// Carves arrays out of a block of memory, or, without memory, counts what they would need.
class Carver {
 public:
  explicit Carver(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}
  template <class V>
  V* Take(int64_t count) {
    V* taken = memory_ ? reinterpret_cast<V*>(memory_ + bytes_) : nullptr;
    bytes_ += (count * static_cast<int64_t>(sizeof(V)) + 255) / 256 * 256;
    return taken;
  }
  int64_t bytes() const { return bytes_; }

 private:
  unsigned char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace earshot::cuda
