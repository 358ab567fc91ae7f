// A problem for the attention kernels, its answer by the definition in double, and the run of the library on it.
//
//   AttentionProblem problem({.head_dim = 64, .lengths = {130}});
//   problem.AddPattern("local(chunk=16,left=64)");
//   problem.Forward();                                    // the library's
//   EXPECT_LT(problem.ForwardError(), 0.01);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/pattern.h"
#include "src/base/random.h"
#include "tests/attention/cuda_emulation/device_memory.h"

namespace earshot {

struct ProblemOptions {
  CudaElement element = CudaElement::kBFloat16;
  int32_t heads = 2, kv_heads = 2;
  int32_t head_dim = 64;
  std::vector<int32_t> lengths = {130};
  int32_t gap = 0;         // rows behind each utterance that belong to none
  int32_t extra_keys = 0;  // rows of keys behind the frames, such as memory
  bool bias = false, rotary = false, scores = false;
  int32_t num_scores = 7;  // where there are scores
  bool positions = false;  // rows of the rotary tables are given, instead of the row itself
  int64_t padding = 0;     // of the rows in memory, in elements: odd numbers break the alignment
  uint64_t seed = 1;
};

class AttentionProblem {
 public:
  explicit AttentionProblem(const ProblemOptions& options);

  // The library builds the lists of these terms, with a random choice of blocks where one is learned; rows whose bias
  // is below the threshold are left out, where there is one. With drops_queries, queries below it see nothing and get
  // zeros.
  void AddPattern(const std::string& pattern, const float* threshold = nullptr, bool drops_queries = false);
  // Besides, or instead: any entries, in tiles of 64 frames of each utterance; or tiles of random lengths.
  void AddEntries(const std::vector<std::vector<CudaKeyEntry>>& entries_of_tiles);
  // Ranges and rows at random: a queries' tile of `rows` rows of the batch, with several ranges for some.
  void AddRandomEntries(int rows, bool several_ranges);

  void Forward();
  void Backward();
  // Whether Backward takes the kernel for windows; it doesn't once gradients.window is {}.
  bool GoesByWindow();

  // The largest difference from the definition, relative to the largest number of each result; names it in `worst`.
  double ForwardError();
  double BackwardError();
  std::string worst;

  // Entries that the lists hold, by tile.
  std::vector<std::vector<CudaKeyEntry>> Entries() const;

  const ProblemOptions options;
  Random random;
  int32_t num_queries = 0, num_keys = 0, num_scores = 0;
  DeviceVector<CudaUtterance> utterances;
  DeviceVector<CudaQueryTile> tiles;  // of the lists
  CudaAttentionArguments arguments;
  CudaGradientArguments gradients;
  // (row, head, channel), q behind one another as a fused projection gives them where keys are as many as queries.
  DeviceVector<uint16_t> projection, keys, values, out, grad_out, grad_projection, grad_keys, grad_values;
  DeviceVector<float> bias, scores, cosines, sines, lse, grad_bias, grad_scores;
  DeviceVector<int32_t> query_positions, key_positions;
  // What learned selection chose, in `chosen_blocks`.
  CudaSelection selection;
  DeviceVector<int64_t> chosen_blocks;

 private:
  struct Answer {
    std::vector<double> out, lse, grad_q, grad_k, grad_v, grad_bias, grad_scores;
  };

  Answer Compute() const;
  // q or k of the heads as the kernels see it, rotated and rounded; and what undoes the rotation of a gradient.
  std::vector<double> Rotated(const CudaConstHeads& from, int32_t rows, int32_t num_heads,
                              const DeviceVector<int32_t>& positions) const;
  void Unrotate(std::vector<double>& x, int32_t num_heads, const DeviceVector<int32_t>& positions) const;
  std::vector<double> Read(const CudaConstHeads& from, int32_t rows, int32_t num_heads) const;
  double Compare(const std::string& name, const std::vector<double>& expected, const std::vector<double>& got);
  void* Allocate(int64_t bytes);
  void Choose(const PatternTerm& term);

  CudaListArguments list_arguments_;
  DeviceVector<int32_t> also_offsets_;
  DeviceVector<CudaKeyEntry> also_entries_;
  CudaKeyLists also_;
  std::vector<DeviceVector<char>> memory_;
};

// Relative to the largest of the expected numbers: what rounding to 16 bits may cost.
inline double Tolerance(CudaElement element) { return element == CudaElement::kBFloat16 ? 0.012 : 0.002; }

}  // namespace earshot
