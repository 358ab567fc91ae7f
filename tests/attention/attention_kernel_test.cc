// The kernels against the definition in double, at every SIMD level of this machine.
//
// Bounds. Float: 1e-5 of the largest value, for outputs. bf16: the reference is computed in double from the bf16 inputs
// with weights that are not rounded. The kernel rounds outputs, which alone makes a difference of 2^-8 = 3.9e-3 where
// the largest is just above a power of two, and (where products of bf16 are used) weights, but not their sums: 6e-3 of
// the largest output is allowed, and 2e-4 for lse.
#include "src/attention/attention_kernel.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <limits>
#include <string>
#include <tuple>

#include "src/base/error.h"
#include "tests/attention/attention_kernel_problem.h"

namespace earshot {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

KeyUnit SlidingUnit(int64_t first_query, int num_queries, int64_t rows, int left, int right) {
  KeyUnit unit{.first_query = first_query, .num_queries = num_queries};
  for (int64_t j = std::max<int64_t>(0, first_query - left);
       j < std::min<int64_t>(rows, first_query + num_queries + right); ++j)
    unit.keys.push_back({.row = static_cast<int32_t>(j),
                         .first = static_cast<int32_t>(std::max<int64_t>(0, j - right - first_query)),
                         .end = static_cast<int32_t>(std::min<int64_t>(num_queries, j + left + 1 - first_query))});
  return unit;
}

// Any rows, any intervals: some empty, some rows twice, all in random order.
KeyUnit RandomUnit(int num_queries, int num_keys, const ProblemSpec& spec, Random& random) {
  KeyUnit unit{.first_query = spec.first_query, .num_queries = num_queries};
  for (int i = 0; i < num_keys; ++i) {
    KeyEntry entry{.row = static_cast<int32_t>(random.Index(spec.rows))};
    if (random.Chance(0.5)) {
      entry.end = num_queries;
    } else {
      entry.first = static_cast<int32_t>(random.Index(num_queries));
      entry.end = static_cast<int32_t>(entry.first + random.Index(num_queries - entry.first + 1));
    }
    if (spec.num_scores > 0 && random.Chance(0.7)) entry.score = static_cast<int32_t>(random.Index(spec.num_scores));
    // The ranges of a row never overlap.
    bool clash = false;
    for (const KeyEntry& other : unit.keys)
      clash = clash || (other.row == entry.row && other.first < entry.end && entry.first < other.end);
    if (!clash) unit.keys.push_back(entry);
  }
  return unit;
}

class AttentionKernel : public testing::TestWithParam<std::tuple<SimdLevel, KernelType>> {
 protected:
  SimdLevel level() const { return std::get<0>(GetParam()); }
  KernelType type() const { return std::get<1>(GetParam()); }
  bool is_float() const { return type() == KernelType::kFloat; }

  void ExpectRightOut(const Problem& problem, const Problem::Answer& answer, const std::string& what) const {
    const Difference out = problem.CompareOut(answer, is_float()), lse = problem.CompareLse(answer);
    EXPECT_LE(out.Relative(), is_float() ? 1e-5 : 6e-3)
        << what << ": outputs differ by " << out.absolute << " of " << out.scale;
    EXPECT_LE(lse.Relative(), is_float() ? 1e-5 : 2e-4)
        << what << ": lse differs by " << lse.absolute << " of " << lse.scale;
  }
  void ExpectRightGradients(const Problem& problem, const Problem::Answer& answer, const std::string& what) const {
    const std::array<const char*, 5> names = {"q", "k", "v", "bias", "scores"};
    const auto differences = problem.CompareGradients(answer);
    for (size_t i = 0; i < names.size(); ++i)
      EXPECT_LE(differences[i].Relative(), is_float() ? 2e-5 : 1.5e-2)
          << what << ": gradients of " << names[i] << " differ by " << differences[i].absolute << " of "
          << differences[i].scale;
  }
  void ExpectRight(Problem& problem, const std::string& what) const {
    const Problem::Answer answer = problem.Solve();
    problem.Forward(level());
    ExpectRightOut(problem, answer, what);
    problem.Backward(level());
    ExpectRightGradients(problem, answer, what);
  }
};

TEST_P(AttentionKernel, SlidingWindow) {
  Random random(1);
  for (const int d : {1, 32, 36, 40, 64, 80, 96, 128, 256}) {
    Problem problem({.type = type(), .heads = 2, .kv_heads = 2, .head_dim = d, .first_query = 100, .rows = 300},
                    SlidingUnit(100, 150, 300, 60, 20), random);
    ExpectRight(problem, "d = " + std::to_string(d));
  }
}

TEST_P(AttentionKernel, RandomUnits) {
  Random random(2);
  const std::array<int, 6> queries = {1, 7, 16, 67, 131, 512}, dims = {32, 36, 40, 64, 80, 3};
  for (int round = 0; round < 24; ++round) {
    ProblemSpec spec{.type = type(), .kv_heads = static_cast<int>(1 + random.Index(2)), .rows = 1 + random.Index(400)};
    spec.heads = spec.kv_heads * static_cast<int>(1 + random.Index(3));
    spec.head_dim = dims[static_cast<size_t>(random.Index(6))];
    spec.first_query = random.Index(5);
    spec.bias = random.Chance(0.5);
    spec.num_scores = random.Chance(0.5) ? static_cast<int>(1 + random.Index(50)) : 0;
    const int num_queries = queries[static_cast<size_t>(round % 6)];
    const int num_keys = static_cast<int>(num_queries == 512 ? random.Index(80) : random.Index(300));
    Problem problem(spec, RandomUnit(num_queries, num_keys, spec, random), random);
    for (float& bias : problem.bias())
      if (random.Chance(0.1)) bias = random.Chance(0.5) ? -kInfinity : -1e30f;
    ExpectRight(problem, "round " + std::to_string(round));
  }
}

TEST_P(AttentionKernel, SixteenHeadsOfOneKeyHead) {
  Random random(3);
  Problem problem({.type = type(), .heads = 16, .head_dim = 32, .rows = 90}, SlidingUnit(0, 60, 90, 30, 30), random);
  ExpectRight(problem, "16 heads");
}

TEST_P(AttentionKernel, NoKeys) {
  Random random(4);
  Problem problem({.type = type(), .heads = 2, .head_dim = 36, .rows = 4}, KeyUnit{.num_queries = 19}, random);
  ExpectRight(problem, "no keys");
  Problem hidden(
      {.type = type(), .head_dim = 36, .rows = 4},
      KeyUnit{.num_queries = 19, .keys = {{.row = 1, .first = 5, .end = 5}, {.row = 2, .first = 3, .end = 9}}}, random);
  ExpectRight(hidden, "few keys");
}

// More keys than are packed at a time; each kind of list.
TEST_P(AttentionKernel, LongLists) {
  Random random(5);
  for (const int d : {64, 128}) {
    KeyUnit unit{.first_query = 3, .num_queries = 37};
    for (int j = 0; j < 2600; ++j) unit.keys.push_back({.row = j, .first = 0, .end = j % 100 == 0 ? 20 : 37});
    Problem problem({.type = type(), .heads = 2, .head_dim = d, .rows = 2600, .bias = true}, unit, random);
    ExpectRight(problem, "2600 keys, d = " + std::to_string(d));
  }
}

// What is added to out of order may not be lost: logits of all sizes, in lists of one chunk and of several.
TEST_P(AttentionKernel, ExtremeLogits) {
  Random random(6);
  for (const int num_keys : {40, 2600}) {
    for (const double size : {100.0, 1e4}) {
      ProblemSpec spec{.type = type(), .heads = 1, .head_dim = 64, .rows = num_keys, .bias = true};
      KeyUnit unit{.num_queries = 21};
      for (int j = 0; j < num_keys; ++j) unit.keys.push_back({.row = j, .first = 0, .end = j % 3 == 0 ? 13 : 21});
      Problem problem(spec, unit, random);
      // Logits of whole multiples of 1 / 4, which all types compute exactly: q and k are 8 times a unit vector.
      for (int t = 0; t < 21; ++t)
        for (int c = 0; c < 64; ++c) problem.q().Set(t, 0, c, c == 0 ? 8 : 0);
      for (int j = 0; j < num_keys; ++j) {
        const double logit = std::round(random.Uniform(-size, size));
        for (int c = 0; c < 64; ++c) problem.k().Set(j, 0, c, c == 0 ? logit : 0);
        problem.bias()[static_cast<size_t>(j)] = 0;
        if (j % 7 == 0) problem.bias()[static_cast<size_t>(j)] = j % 2 == 0 ? -kInfinity : -1e30f;
      }
      ExpectRight(problem, std::to_string(num_keys) + " keys, logits up to " + std::to_string(size));
    }
  }
}

TEST_P(AttentionKernel, NothingButHiddenByBias) {
  Random random(7);
  for (const float hidden : {-1e30f, -kInfinity}) {
    Problem problem({.type = type(), .head_dim = 40, .rows = 50, .bias = true}, SlidingUnit(0, 33, 50, 10, 10), random);
    for (float& bias : problem.bias()) bias = hidden;
    const Problem::Answer answer = problem.Solve();
    problem.Forward(level());
    if (hidden == -kInfinity) {
      ExpectRightOut(problem, answer, "minus infinity");
      for (const float lse : problem.lse()) EXPECT_EQ(lse, -kInfinity);
      problem.Backward(level());
      ExpectRightGradients(problem, answer, "minus infinity");
      continue;
    }
    // Beside 1e30 a logit of 1 is nothing, in float: all keys weigh the same.
    for (int r = 0; r < 33; ++r)
      for (int c = 0; c < 40; ++c) {
        double mean = 0, count = 0;
        for (const KeyEntry& entry : problem.unit().keys) {
          if (entry.first > r || entry.end <= r) continue;
          mean += problem.v().Get(entry.row, 0, c);
          ++count;
        }
        EXPECT_NEAR(problem.out().Get(r, 0, c), mean / count, is_float() ? 1e-5 : 8e-3);
      }
  }
}

TEST_P(AttentionKernel, IsTheSameEveryTime) {
  const auto solve = [&] {
    Random random(8);
    const ProblemSpec spec{
        .type = type(), .heads = 4, .kv_heads = 2, .head_dim = 36, .rows = 300, .bias = true, .num_scores = 9};
    Problem problem(spec, RandomUnit(140, 250, spec, random), random);
    problem.Forward(level());
    problem.Backward(level());
    return problem;
  };
  EXPECT_TRUE(solve().SameResults(solve()));
}

INSTANTIATE_TEST_SUITE_P(Levels, AttentionKernel,
                         testing::Combine(testing::ValuesIn(SupportedSimdLevels()),
                                          testing::Values(KernelType::kFloat, KernelType::kBFloat16)),
                         [](const auto& info) {
                           return std::string(Name(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) == KernelType::kFloat ? "Float" : "BFloat16");
                         });

TEST(AttentionKernelCheck, SizesThatNoKernelTakesAreErrors) {
  Random random(9);
  Problem problem({.head_dim = 8, .rows = 4}, SlidingUnit(0, 4, 4, 1, 1), random);
  AttentionScratch scratch;
  AttentionArguments arguments = problem.Arguments();
  arguments.head_dim = 257;
  EXPECT_THROW(AttentionForward(arguments, problem.unit(), 0, scratch), LogicError);
  arguments = problem.Arguments();
  EXPECT_THROW(AttentionForward(arguments, problem.unit(), 1, scratch), LogicError);
  arguments.lse = nullptr;
  EXPECT_THROW(AttentionBackward(arguments, {}, problem.unit(), 0, scratch), LogicError);
}

#if defined(__x86_64__)
// As in frame_kernel_test.cc: what is compiled for newer CPUs may not be reachable under a name that other files use.
TEST(AttentionKernelCheck, LevelsShareNoTemplateWithTheRest) {
  const std::string library = std::string(EARSHOT_BINARY_DIR) + "/src/attention/libearshot_attention.a";
  std::FILE* pipe = popen(("nm -C '" + library + "'").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string object;
  int objects = 0;
  std::array<char, 65536> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    std::string line = buffer.data();
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    if (line.ends_with(".o:")) {
      object = line;
      if (object.find("attention_kernel_a") != std::string::npos) ++objects;
    }
    if (object.find("attention_kernel_a") == std::string::npos || line.size() < 20 || line[18] != ' ') continue;
    const std::string name = line.substr(19);
    if (std::string("WVu").find(line[17]) == std::string::npos || name.starts_with("DW.ref.")) continue;
    EXPECT_NE(name.find("earshot::attention_a"), std::string::npos) << object << " " << name;
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_EQ(objects, 4);
}
#endif

}  // namespace
}  // namespace earshot
