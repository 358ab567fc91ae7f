// The kernels, emulated or on a GPU (device_memory.h), against the definition in double.
#include "src/attention/cuda/attention_cuda.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/cuda_emulation/attention_problem.h"
#if !defined(EARSHOT_CUDA_ON_DEVICE)
#include "tests/attention/cuda_emulation/cuda_emulation.h"
#endif

namespace earshot {
namespace {

void CheckBoth(AttentionProblem& problem) {
  const double tolerance = Tolerance(problem.options.element);
  problem.Forward();
  EXPECT_LT(problem.ForwardError(), tolerance) << problem.worst;
  problem.Backward();
  EXPECT_LT(problem.BackwardError(), 1.5 * tolerance) << problem.worst;
  if (!problem.GoesByWindow()) return;
  problem.gradients.window = {};
  problem.Backward();
  EXPECT_LT(problem.BackwardError(), 1.5 * tolerance) << problem.worst;
}

TEST(AttentionCudaTest, LengthsRoundTheTiles) {
  for (const int32_t length : {1, 2, 63, 64, 65, 130, 300}) {
    AttentionProblem problem({.lengths = {length}});
    problem.AddPattern("full");
    SCOPED_TRACE(length);
    CheckBoth(problem);
  }
}

TEST(AttentionCudaTest, HeadDims) {
  for (const CudaElement element : {CudaElement::kBFloat16, CudaElement::kFloat16}) {
    for (const int32_t head_dim : {4, 16, 32, 36, 40, 48, 64, 80, 96, 100, 128}) {
      for (const bool rotary : {false, true}) {
        AttentionProblem problem(
            {.element = element, .heads = 1, .kv_heads = 1, .head_dim = head_dim, .lengths = {70}, .rotary = rotary});
        problem.AddPattern("full(causal=true)");
        SCOPED_TRACE(head_dim);
        CheckBoth(problem);
      }
    }
  }
}

#if !defined(EARSHOT_CUDA_ON_DEVICE)
// What the emulated device is, for one test.
class OnDevice {
 public:
  OnDevice(bool hopper, int multiprocessors) {
    emulation::hopper = hopper;
    emulation::multiprocessors = multiprocessors;
  }
  ~OnDevice() {
    emulation::hopper = true;
    emulation::multiprocessors = 1;
  }
};

TEST(AttentionCudaTest, HeadDimsOnOlderDevices) {
  const OnDevice device(false, 1);
  for (const int32_t head_dim : {40, 48, 56, 64}) {
    AttentionProblem problem({.head_dim = head_dim, .lengths = {130, 20}});
    problem.AddPattern("sliding(left=70,right=20)");
    SCOPED_TRACE(head_dim);
    CheckBoth(problem);
  }
}
#endif

// On compute capability 9.0 these have a kernel of their own, whose blocks share tiles and heads among them.
TEST(AttentionCudaTest, HeadDimsOnHopper) {
  for (const int multiprocessors : {1, 100}) {
#if !defined(EARSHOT_CUDA_ON_DEVICE)
    const OnDevice device(true, multiprocessors);
#endif
    for (const CudaElement element : {CudaElement::kBFloat16, CudaElement::kFloat16}) {
      for (const int32_t head_dim : {40, 48, 56, 64}) {
        AttentionProblem problem({.element = element,
                                  .heads = 6,
                                  .kv_heads = multiprocessors == 1 ? 3 : 6,
                                  .head_dim = head_dim,
                                  .lengths = {290, 1, 129},
                                  .bias = head_dim == 48});
        problem.AddPattern(head_dim == 56 ? "full" : "sliding(left=100,right=70)+strided(every=16,reach=200)");
        SCOPED_TRACE(head_dim);
        CheckBoth(problem);
      }
    }
  }
}

TEST(AttentionCudaTest, MemoryWithoutAlignment) {
  for (const bool rotary : {false, true}) {
    AttentionProblem problem({.head_dim = 64, .lengths = {70}, .rotary = rotary, .padding = 3});
    problem.AddPattern("full");
    CheckBoth(problem);
  }
}

// A window of their own in front of each query or behind it, in chunks or not, and utterances that end anywhere in a
// pair of tiles of keys, or in runs of several pairs.
TEST(AttentionCudaTest, Windows) {
  for (const int multiprocessors : {1, 7}) {
#if !defined(EARSHOT_CUDA_ON_DEVICE)
    const OnDevice device(true, multiprocessors);
#endif
    for (const std::string pattern :
         {"sliding(left=128,right=128)", "sliding(left=20,right=0)", "sliding(left=0,right=250)",
          "local(chunk=16,left=64,lookahead=0)", "local(chunk=100,left=60,lookahead=9)", "full(causal=true)"}) {
      const bool one = multiprocessors == 1;
      AttentionProblem problem(
          {.element = one ? CudaElement::kBFloat16 : CudaElement::kFloat16,
           .head_dim = one ? 64 : 40,
           .lengths = pattern[0] == 'f' ? std::vector<int32_t>{130, 256} : std::vector<int32_t>{1, 64, 129, 600},
           .gap = 3,
           .bias = one});
      // Rows of queries in no utterance are left as they are, those of keys become zeros.
      problem.out.assign(problem.out.size(), 0);
      problem.lse.assign(problem.lse.size(), -INFINITY);
      const size_t fused = problem.gradients.grad_q.frame_stride;
      for (size_t i = 0; i < problem.grad_projection.size(); ++i)
        if (i % fused < fused / 3) problem.grad_projection[i] = 0;
      problem.AddPattern(pattern);
      SCOPED_TRACE(pattern);
#if !defined(EARSHOT_CUDA_ON_DEVICE)
      EXPECT_TRUE(problem.GoesByWindow());
#endif
      CheckBoth(problem);
    }
  }
}

// What the kernel for windows can't take.
TEST(AttentionCudaTest, TooWideForTheKernelOfWindows) {
  for (const char* pattern : {"sliding(left=200,right=100)", "full", "strided(every=4)", "local(chunk=512,left=0)"}) {
    AttentionProblem problem({.lengths = {600}});
    problem.AddPattern(pattern);
    SCOPED_TRACE(pattern);
    EXPECT_FALSE(problem.GoesByWindow());
    CheckBoth(problem);
  }
}

// Scores of selection and their gradients, by the lists that the library makes of what was chosen.
TEST(AttentionCudaTest, LearnedSelection) {
  for (const char* pattern : {"learned(block=16,blocks=3,reach=-1,lookahead=-1)",
                              "learned(block=16,blocks=3,reach=-1,lookahead=-1)+sliding(left=20,right=3)"}) {
    for (const int32_t head_dim : {32, 64}) {
      AttentionProblem problem({.heads = 2,
                                .head_dim = head_dim,
                                .lengths = {150, 1, 77},
                                .bias = true,
                                .scores = true,
                                .num_scores = 3 * 10 * 3});
      problem.AddPattern(pattern);
      SCOPED_TRACE(pattern);
      CheckBoth(problem);
    }
  }
}

TEST(AttentionCudaTest, Patterns) {
  for (const char* pattern :
       {"full", "full(causal=true)", "local(chunk=16,left=64,lookahead=0)", "local(chunk=5,left=-1,lookahead=3)",
        "sliding(left=20,right=7)", "strided(every=8,reach=-1,lookahead=0)", "blockwise(block=16,offsets=-3;-1;1)",
        "local(chunk=16,left=32)+strided(every=32,reach=200)",
        "sliding(left=3,right=0)+blockwise(block=9,offsets=-2)"}) {
    AttentionProblem problem({.heads = 2, .head_dim = 32, .lengths = {130, 1, 77}});
    problem.AddPattern(pattern);
    SCOPED_TRACE(pattern);
    CheckBoth(problem);
  }
}

TEST(AttentionCudaTest, GateBiasesAndCompacts) {
  for (const int32_t head_dim : {32, 64}) {
    for (const bool compacts : {false, true}) {
      for (const bool drops_queries : {false, compacts}) {
        AttentionProblem problem({.head_dim = head_dim, .lengths = {150, 64, 200}, .bias = true});
        const float threshold = -1.2F;
        // The last two thirds of the second tile of the last utterance, and all of the second utterance.
        for (int32_t i = 150; i < 214; ++i) problem.bias[i] = -1.5F;
        for (int32_t i = 366; i < 414; ++i) problem.bias[i] = -1.5F;
        problem.AddPattern("local(chunk=16,left=64)+strided(every=8)", compacts ? &threshold : nullptr, drops_queries);
        CheckBoth(problem);
      }
    }
  }
}

TEST(AttentionCudaTest, RotaryPositions) {
  for (const bool positions : {false, true}) {
    AttentionProblem problem({.head_dim = 64, .lengths = {130}, .rotary = true, .positions = positions});
    problem.AddPattern("local(chunk=16,left=64)");
    CheckBoth(problem);
  }
}

TEST(AttentionCudaTest, KvHeadsShared) {
  for (const int32_t head_dim : {32, 64}) {
    for (const int32_t kv_heads : {1, 2, 3}) {
      AttentionProblem problem(
          {.heads = kv_heads == 3 ? 3 : 4, .kv_heads = kv_heads, .head_dim = head_dim, .lengths = {100}, .bias = true});
      problem.AddPattern("sliding(left=40,right=10)");
      CheckBoth(problem);
    }
  }
}

TEST(AttentionCudaTest, AnyEntries) {
  for (const bool several : {false, true}) {
    for (const bool rotary : {false, true}) {
      AttentionProblem problem({.heads = 4,
                                .kv_heads = 2,
                                .head_dim = rotary ? 32 : 64,
                                .lengths = {130, 70, 64},
                                .extra_keys = 9,
                                .bias = true,
                                .rotary = rotary,
                                .scores = true,
                                .positions = rotary});
      problem.AddRandomEntries(100, several);
      SCOPED_TRACE(several);
      CheckBoth(problem);
    }
  }
}

TEST(AttentionCudaTest, AnyEntriesBesidesAPattern) {
  AttentionProblem problem({.head_dim = 64, .lengths = {130, 70}, .extra_keys = 5, .bias = true});
  std::vector<std::vector<CudaKeyEntry>> entries(problem.tiles.size());
  for (auto& of_tile : entries) {
    for (int32_t i = 0; i < 5; ++i) of_tile.push_back({problem.num_queries + i, 0, static_cast<uint16_t>(2 + i)});
  }
  problem.AddEntries(entries);
  problem.AddPattern("sliding(left=5,right=5)");
  CheckBoth(problem);
}

TEST(AttentionCudaTest, NobodySeesAnything) {
  for (const int32_t head_dim : {32, 64}) {
    AttentionProblem problem({.head_dim = head_dim, .lengths = {70}});
    problem.AddEntries({{}, {}});
    CheckBoth(problem);
  }
}

// Within a warp that computes: queries without entries, and queries whose only key has a bias of minus infinity.
TEST(AttentionCudaTest, SomeQueriesSeeNothing) {
  for (const int32_t head_dim : {32, 64}) {
    AttentionProblem problem({.head_dim = head_dim, .lengths = {70}, .bias = true});
    problem.bias[7] = problem.bias[8] = -1;
    problem.bias[9] = -INFINITY;
    problem.AddEntries({{{7, 2, 5}, {8, 4, 6}, {9, 5, 40}}, {{9, 0, 6}, {8, 1, 2}}});
    CheckBoth(problem);
  }
}

TEST(AttentionCudaTest, SameBitsWhateverTheOrderOfThreads) {
  std::vector<DeviceVector<uint16_t>> results;
  for (const bool reversed : {false, true}) {
#if !defined(EARSHOT_CUDA_ON_DEVICE)
    emulation::reversed_threads = reversed;
#endif
    for (const bool rotary : {false, true}) {
      AttentionProblem problem({.heads = 2, .kv_heads = 1, .lengths = {130}, .bias = true, .rotary = rotary});
      problem.AddPattern("local(chunk=16,left=32)+strided(every=16)");
      CheckBoth(problem);
      results.push_back(problem.out);
      results.push_back(problem.grad_projection);
    }
  }
#if !defined(EARSHOT_CUDA_ON_DEVICE)
  emulation::reversed_threads = false;
#endif
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(results[i], results[i + 4]);
}

TEST(AttentionCudaTest, EmptyBatch) {
  AttentionProblem problem({.lengths = {}});
  problem.AddPattern("full");
  CheckBoth(problem);
}

// Rows that no query sees, and no query at all: the gradients of the keys are written all the same.
TEST(AttentionCudaTest, KeysWithoutQueries) {
  for (const int32_t head_dim : {32, 64}) {
    AttentionProblem problem({.head_dim = head_dim, .lengths = {}, .extra_keys = 70});
    problem.AddPattern("full");
    CheckBoth(problem);
  }
}

TEST(AttentionCudaTest, TilesOfAnyLength) {
  for (const int32_t head_dim : {32, 64}) {
    AttentionProblem problem({.head_dim = head_dim, .lengths = {100}, .bias = true});
    problem.tiles.assign({{0, 10}, {10, 64}, {74, 1}, {75, 25}});
    problem.AddRandomEntries(80, true);
    CheckBoth(problem);
  }
}

TEST(AttentionCudaTest, SaysWhatIsWrong) {
  AttentionProblem problem({.lengths = {10}});
  problem.AddPattern("full");
  CudaAttentionArguments wrong = problem.arguments;
  wrong.head_dim = 132;
  const int error = EarshotCudaAttention()->forward(wrong, nullptr);
  EXPECT_LT(error, 0);
  EXPECT_NE(std::string(EarshotCudaAttention()->message(error)).find("head_dim"), std::string::npos);
}

}  // namespace
}  // namespace earshot
