// The parts of the encoder, each alone: rotary positions, gate, memory bank, subsampling, convolution, dropout.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "src/attention/pattern.h"
#include "src/base/random.h"
#include "src/nn/block_selector.h"
#include "src/nn/convolution.h"
#include "src/nn/dropout.h"
#include "src/nn/gate.h"
#include "src/nn/key_cells.h"
#include "src/nn/memory_bank.h"
#include "src/nn/rotary.h"
#include "src/nn/subsampling.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

// Calls take(begin, size, final) for pieces of random size that cover `total`; the last may be empty.
template <class Take>
void InPieces(int64_t total, int64_t most, Random& random, Take take) {
  for (int64_t begin = 0; begin < total;) {
    const int64_t size = std::min(random.Index(most + 1), total - begin);
    take(begin, size, false);
    begin += size;
  }
  take(total, 0, true);
}

TEST(RotaryTest, RotatesTheFirstHalfAgainstTheSecond) {
  // d = 4: the pairs (0, 2) by the angle of the position, (1, 3) by a hundredth of it.
  const Tensor x = torch::tensor({1.0F, 2.0F, 3.0F, 4.0F}).view({1, 1, 1, 4});
  const Tensor y = ApplyRotary(x, MakeRotaryTable(5, 1, 4, torch::kCPU)).flatten();
  const double a = 5, b = 0.05;
  const Tensor expected = torch::tensor({std::cos(a) - 3 * std::sin(a), 2 * std::cos(b) - 4 * std::sin(b),
                                         3 * std::cos(a) + std::sin(a), 4 * std::cos(b) + 2 * std::sin(b)},
                                        torch::kDouble);
  EXPECT_TRUE(TensorsMatch(y, expected, 1e-5));
}

TEST(RotaryTest, ScoresDependOnDifferencesHoweverFarTheStreamIs) {
  torch::manual_seed(1);
  const Tensor q = torch::randn({1, 2, 20, 16}), k = torch::randn({1, 2, 20, 16});
  const auto scores = [&](int64_t first) {
    const RotaryTable table = MakeRotaryTable(first, 20, 16, torch::kCPU);
    return torch::matmul(ApplyRotary(q, table), ApplyRotary(k, table).transpose(2, 3));
  };
  // A day of 40 ms frames is 2.2 million; 2^24 is where float positions would begin to fail.
  for (const int64_t first : {1, 1000, 2'160'000, 16'777'217, 1'000'000'007})
    EXPECT_TRUE(TensorsMatch(scores(first), scores(0), 2e-5)) << first;
  // In pieces as in one.
  const RotaryTable whole = MakeRotaryTable(0, 20, 16, torch::kCPU), part = MakeRotaryTable(7, 13, 16, torch::kCPU);
  EXPECT_TRUE(torch::equal(whole.cos.narrow(0, 7, 13), part.cos));
  EXPECT_TRUE(torch::equal(whole.sin.narrow(0, 7, 13), part.sin));
}

TEST(RotaryTest, FramesBetweenWhichOthersWereLeftOutHaveTheirOwnAngles) {
  const RotaryTable whole = MakeRotaryTable(1000, 2000, 16, torch::kCPU);
  // Over two of the steps of 1024 positions that angles are composed of.
  const std::vector<int64_t> positions = {1000, 1001, 1005, 1023, 1024, 1500, 2047, 2048, 2999};
  const Tensor index = torch::tensor(positions, torch::kInt64) - 1000;
  const RotaryTable some = MakeRotaryTable(positions, 16, torch::kCPU);
  EXPECT_TRUE(torch::equal(some.cos, whole.cos.index_select(0, index)));
  EXPECT_TRUE(torch::equal(some.sin, whole.sin.index_select(0, index)));
  EXPECT_EQ(MakeRotaryTable(std::vector<int64_t>{}, 16, torch::kCPU).cos.size(0), 0);
}

TEST(GateTest, Kinds) {
  torch::manual_seed(1);
  const Tensor x = torch::randn({2, 5, 8}), energy = torch::linspace(-3, 3, 10).view({2, 5});
  EXPECT_FALSE(Gate({.kind = GateKind::kOff}, 8).forward(x, energy).defined());

  Gate by_energy({.kind = GateKind::kEnergy, .energy_threshold = -0.5, .energy_slope = 2, .floor = 0.01}, 8);
  EXPECT_TRUE(by_energy.parameters().empty());
  EXPECT_TRUE(
      TensorsMatch(by_energy.forward(x, energy), (1 / (1 + torch::exp(-2 * (energy + 0.5)))).clamp_min(0.01), 1e-6));
  EXPECT_TRUE(TensorsMatch(by_energy.forward(x, torch::full({2, 5}, -1e4)), torch::full({2, 5}, 0.01), 1e-6));

  Gate learned({.kind = GateKind::kLearned, .hidden_dim = 4, .initial_bias = 3}, 8);
  const Tensor g = learned.forward(x, {});
  EXPECT_EQ(g.sizes().vec(), (std::vector<int64_t>{2, 5}));
  EXPECT_GT(g.min().item<double>(), 0.8);  // starts open
  EXPECT_LE(g.max().item<double>(), 1);
  const auto parameters = learned.named_parameters();
  const Tensor normed = torch::layer_norm(x, {8}, parameters["norm.weight"], parameters["norm.bias"]);
  const Tensor h = torch::matmul(normed, parameters["hidden.weight"].t()) + parameters["hidden.bias"];
  const Tensor logit =
      torch::matmul(h * torch::sigmoid(h), parameters["output.weight"].t()) + parameters["output.bias"];
  EXPECT_TRUE(TensorsMatch(g, torch::sigmoid(logit).squeeze(2), 1e-6));
}

TEST(GateTest, LearnedWithEnergyStartsAsTheEnergyGateAndLearnsBoth) {
  torch::manual_seed(1);
  const Tensor x = torch::randn({2, 5, 8}), energy = torch::linspace(-3, 3, 10).view({2, 5});
  Gate gate({.kind = GateKind::kLearned, .hidden_dim = 4, .with_energy = true, .floor = 0.01}, 8);
  EXPECT_TRUE(gate.HearsEnergy());
  const Tensor by_energy = torch::sigmoid(4 * (energy + 0.8)).clamp_min(0.01), g = gate.forward(x, energy);
  EXPECT_TRUE(TensorsMatch(g, by_energy, 0.05));
  EXPECT_FALSE(TensorsMatch(g, by_energy, 1e-5));
  g.sum().backward();
  for (const auto& parameter : gate.named_parameters()) {
    if (parameter.key() == "norm.bias") continue;
    EXPECT_GT(parameter.value().grad().abs().sum().item<double>(), 0) << parameter.key();
  }
}

class MemoryBankTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    torch::manual_seed(2);
    term_ = Pattern::Parse(std::string("local+") + GetParam()).terms()[1];
    bank_ = std::make_shared<MemoryBank>(term_, kDim);
    const torch::NoGradGuard no_grad;
    for (Tensor& p : bank_->parameters()) p.normal_();
  }
  static constexpr int64_t kDim = 6;
  PatternTerm term_;
  std::shared_ptr<MemoryBank> bank_;
};

// The recurrence of the header, chunk by chunk, in double.
TEST_P(MemoryBankTest, FollowsTheRecurrence) {
  const torch::NoGradGuard no_grad;
  const auto parameters = bank_->named_parameters();
  const Tensor pool = parameters["pool"].to(torch::kDouble), embedding = parameters["embedding"].to(torch::kDouble);
  const Tensor a = torch::sigmoid(parameters["decay"].to(torch::kDouble)).unsqueeze(1);
  for (const int64_t frames : {0, 1, 5, 64, 139}) {
    const Tensor x = torch::randn({2, frames, kDim}), log_gate = -torch::rand({2, frames});
    const int64_t chunks = (frames + term_.chunk - 1) / term_.chunk;
    Tensor expected = torch::zeros({2, chunks, term_.slots, kDim}, torch::kDouble);
    for (int64_t n = 0; n < 2; ++n) {
      std::vector<Tensor> m;  // after each chunk
      for (int64_t b = 0; b < chunks; ++b) {
        const int64_t seen = b - 1 - term_.lag;
        expected[n][b] = embedding + (seen >= 0 ? m[static_cast<size_t>(seen)] : torch::zeros_like(embedding));
        const int64_t begin = b * term_.chunk, size = std::min(term_.chunk, frames - begin);
        const Tensor rows = x[n].narrow(0, begin, size).to(torch::kDouble);
        const Tensor scores = torch::matmul(pool, rows.t()) + log_gate[n].narrow(0, begin, size).to(torch::kDouble);
        const Tensor z = torch::matmul(torch::softmax(scores, 1), rows);
        m.push_back((m.empty() ? torch::zeros_like(embedding) : a * m.back()) + (1 - a) * z);
      }
    }
    EXPECT_TRUE(TensorsMatch(bank_->forward(x, log_gate), expected, 1e-5)) << frames << " frames";
    EXPECT_TRUE(TensorsMatch(bank_->forward(x, torch::zeros({2, frames})), bank_->forward(x, {}), 1e-6));
  }
}

TEST_P(MemoryBankTest, CarriedOverPiecesIsTheWhole) {
  const torch::NoGradGuard no_grad;
  Random random(3);
  const int64_t chunks = 90, frames = chunks * term_.chunk + term_.chunk / 2;
  const Tensor x = torch::randn({1, frames, kDim}), log_gate = -torch::rand({1, frames});
  const Tensor whole = bank_->forward(x, log_gate);
  std::vector<Tensor> parts;
  Tensor carried;
  for (int64_t begin = 0; begin < frames;) {
    const int64_t size = std::min(term_.chunk * (1 + random.Index(80)), frames - begin);
    Tensor next;
    parts.push_back(bank_->forward(x.narrow(1, begin, size), log_gate.narrow(1, begin, size), carried, &next));
    carried = next;
    begin += size;
  }
  EXPECT_TRUE(TensorsMatch(torch::cat(parts, 1), whole, 1e-5));
  EXPECT_EQ(carried.sizes().vec(), (std::vector<int64_t>{1, 1 + term_.lag, term_.slots, kDim}));
}

INSTANTIATE_TEST_SUITE_P(Terms, MemoryBankTest,
                         testing::Values("memory(slots=3,chunk=1)", "memory(slots=2,chunk=4,lag=1)",
                                         "memory(slots=1,chunk=16,lag=3)"));

Cells RandomCells(int64_t frames) {
  return {
      .k = torch::randn({2, 3, frames, 4}), .v = torch::randn({2, 3, frames, 4}), .weight = torch::rand({2, frames})};
}

// Each cell from the frames themselves, however many levels lie between.
TEST(KeyCellsTest, AreTheWeighedMeansOfTheirFrames) {
  torch::manual_seed(3);
  const PatternTerm t = *Pattern::Parse("hierarchical(pool=3,levels=3)").hierarchical();
  Cells frames = RandomCells(31);
  frames.weight[1].narrow(0, 20, 11).zero_();  // padding
  const auto levels = AllCells(t, frames);
  ASSERT_EQ(levels.size(), 3);
  for (int64_t level = 1; level <= 3; ++level) {
    const Cells& cells = levels[static_cast<size_t>(level - 1)];
    const int64_t size = t.CellFrames(level);
    ASSERT_EQ(cells.size(), (31 + size - 1) / size);
    for (int64_t c = 0; c < cells.size(); ++c) {
      const int64_t end = std::min<int64_t>(31, (c + 1) * size);
      const Tensor w = frames.weight.slice(1, c * size, end), sum = w.sum(1);
      EXPECT_TRUE(TensorsMatch(cells.weight.select(1, c), sum, 1e-5));
      const Tensor share = (w / sum.clamp_min(1e-9).unsqueeze(1)).view({2, 1, -1, 1});
      EXPECT_TRUE(TensorsMatch(cells.k.select(2, c), (frames.k.slice(2, c * size, end) * share).sum(2), 1e-5));
      EXPECT_TRUE(TensorsMatch(cells.v.select(2, c), (frames.v.slice(2, c * size, end) * share).sum(2), 1e-5));
    }
    const Tensor bias = CellBias(cells.weight);
    EXPECT_TRUE(TensorsMatch(bias[0], cells.weight[0].log(), 1e-5));
    EXPECT_LT(CellBias(torch::zeros({1}))[0].item<double>(), -1e29);
  }
}

TEST(KeyCellsTest, StreamAsTheWhole) {
  torch::manual_seed(4);
  Random random(4);
  const PatternTerm t = *Pattern::Parse("hierarchical(chunk=4,left=2,pool=2,levels=3)").hierarchical();
  const Cells frames = RandomCells(101);
  const auto whole = AllCells(t, frames);
  CellState state;
  InPieces(101, 9, random, [&](int64_t begin, int64_t size, bool final) {
    AcceptFrames(t,
                 {.k = frames.k.narrow(2, begin, size),
                  .v = frames.v.narrow(2, begin, size),
                  .weight = frames.weight.narrow(1, begin, size),
                  .first = begin},
                 final, state);
    const int64_t next = final ? 101 : (begin + size) / 4 * 4;
    for (int64_t level = 1; level <= 3; ++level) {
      const Cells& cells = state.levels[static_cast<size_t>(level)];
      const Cells& expected = whole[static_cast<size_t>(level - 1)];
      EXPECT_EQ(cells.end(), final ? expected.end() : (begin + size) / t.CellFrames(level));
      if (cells.size() == 0) continue;
      EXPECT_TRUE(TensorsMatch(cells.k, expected.k.slice(2, cells.first, cells.end()), 1e-5));
      EXPECT_TRUE(TensorsMatch(cells.weight, expected.weight.slice(1, cells.first, cells.end()), 1e-5));
      if (!final) EXPECT_LE(cells.first, t.PastCells(next, level).first);
    }
    ForgetCells(t, next, state);
    EXPECT_LT(state.levels[3].size(), 12);
  });
}

TEST(BlockSelectorTest, ChoosesTheBestOfTheCandidates) {
  torch::manual_seed(5);
  const PatternTerm t = *Pattern::Parse("learned(block=4,blocks=3,reach=5,lookahead=2)").learned();
  BlockSelector selector(t, 6);
  const Tensor x = torch::randn({2, 50, 6}), weight = torch::rand({2, 50});
  const BlockMeans means = selector.Means(x, weight, 0);
  ASSERT_EQ(means.mean.sizes().vec(), (std::vector<int64_t>{2, 13, 6}));
  const Tensor last =
      (x[1].narrow(0, 48, 2) * weight[1].narrow(0, 48, 2).unsqueeze(1)).sum(0) / weight[1].narrow(0, 48, 2).sum();
  EXPECT_TRUE(TensorsMatch(means.mean[1][12], last, 1e-5));
  const SelectedBlocks selected = selector.Select(means, means, torch::tensor({13, 7}, torch::kInt64));
  const auto parameters = selector.named_parameters();
  const Tensor scores = torch::matmul(torch::matmul(means.mean, parameters["query"].t()),
                                      torch::matmul(means.mean, parameters["key"].t()).transpose(1, 2)) /
                        std::sqrt(32.0);
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t b = 0; b < 13; ++b) {
      std::vector<std::pair<double, int64_t>> candidates;
      for (int64_t c = std::max<int64_t>(0, b - 5); c <= b + 2 && c < (n == 0 ? 13 : 7); ++c) {
        if (c != b) candidates.emplace_back(-scores[n][b][c].item<double>(), c);
      }
      std::sort(candidates.begin(), candidates.end());
      for (size_t rank = 0; rank < 3; ++rank) {
        const auto r = static_cast<int64_t>(rank);
        const bool there = rank < candidates.size();
        EXPECT_EQ(selected.blocks[n][b][r].item<int64_t>(), there ? candidates[rank].second : -1) << n << " " << b;
        const double expected = there ? -std::log1p(std::exp(candidates[rank].first)) : 0;
        EXPECT_NEAR(selected.score[n][b][r].item<double>(), expected, 1e-5);
      }
    }
  }
  selected.score.sum().backward();
  for (const auto& p : selector.named_parameters())
    EXPECT_GT(p.value().grad().abs().max().item<double>(), 0) << p.key();
}

TEST(SubsamplingTest, LengthAndReachAreAsSaid) {
  torch::manual_seed(4);
  const torch::NoGradGuard no_grad;
  for (const int factor : {4, 8}) {
    Subsampling subsampling({.factor = factor, .channels = 3}, 9, 5);
    for (int64_t frames = 0; frames < 40; ++frames) {
      const Tensor y = subsampling.forward(torch::randn({2, frames, 9}));
      EXPECT_EQ(y.sizes().vec(), (std::vector<int64_t>{2, (frames + factor - 1) / factor, 5})) << frames;
      EXPECT_EQ(subsampling.OutputFrames(frames), y.size(1));
    }
    // Frame 2 depends on no other frames than factor 2 ... factor 2 + Span() - 1.
    Tensor x = torch::randn({1, 60, 9}).requires_grad_();
    const torch::AutoGradMode grad(true);
    const Tensor gradient = torch::autograd::grad({subsampling.forward(x)[0][2].square().sum()}, {x})[0];
    const Tensor frame_gradient = gradient.abs().sum(2)[0];
    const int64_t first = factor * 2, span = subsampling.Span();
    EXPECT_EQ(frame_gradient.narrow(0, 0, first).max().item<double>(), 0);
    EXPECT_EQ(frame_gradient.narrow(0, first + span, 60 - first - span).max().item<double>(), 0);
    EXPECT_GT(frame_gradient.sum().item<double>(), 0);
  }
}

TEST(SubsamplingTest, StreamsAsTheWholeAndPaddingChangesNothing) {
  torch::manual_seed(5);
  const torch::NoGradGuard no_grad;
  Random random(5);
  for (const int factor : {4, 8}) {
    Subsampling subsampling({.factor = factor, .channels = 3}, 9, 5);
    for (const int64_t frames : {1, 6, 7, 8, 15, 16, 31, 97}) {
      const Tensor x = torch::randn({1, frames, 9}), whole = subsampling.forward(x);
      const Tensor longer = subsampling.forward(torch::constant_pad_nd(x, {0, 0, 0, 13}));
      EXPECT_TRUE(TensorsMatch(longer.narrow(1, 0, whole.size(1)), whole, 1e-5)) << frames;
      for (const int64_t most : {1, 5, 40}) {
        SubsamplingState state;
        std::vector<Tensor> parts;
        InPieces(frames, most, random, [&](int64_t begin, int64_t size, bool final) {
          parts.push_back(subsampling.StreamBatch({{x.narrow(1, begin, size), final, &state}}).front());
          if (!final) {
            EXPECT_LT(state.frames.size(1), subsampling.Span() + factor);
          }
        });
        EXPECT_TRUE(TensorsMatch(torch::cat(parts, 1), whole, 1e-5)) << frames << " in pieces of up to " << most;
      }
    }
  }
}

class ConvolutionTest : public testing::TestWithParam<ConvolutionOptions> {
 protected:
  void SetUp() override {
    torch::manual_seed(6);
    convolution_ = std::make_shared<Convolution>(GetParam(), 8, 0.1, true);
    convolution_->eval();
  }
  std::shared_ptr<Convolution> convolution_;
};

// What each kind may see, asked of the gradient.
TEST_P(ConvolutionTest, SeesWhatItsKindSays) {
  const ConvolutionOptions& o = GetParam();
  const int64_t frames = 41, half = (o.kernel - 1) / 2;
  Tensor x = torch::randn({1, frames, 8}).requires_grad_();
  const Tensor y = convolution_->forward(x, {});
  for (int64_t t = 0; t < frames; ++t) {
    const Tensor seen = torch::autograd::grad({y[0][t].square().sum()}, {x}, {}, true)[0].abs().sum(2)[0];
    int64_t first = t - half, last = t + half;
    if (o.kind == ConvolutionKind::kCausal) first = t - (o.kernel - 1), last = t;
    if (o.kind == ConvolutionKind::kChunked) last = std::min(last, t / o.chunk * o.chunk + o.chunk - 1);
    for (int64_t j = 0; j < frames; ++j)
      EXPECT_EQ(seen[j].item<double>() > 0, j >= first && j <= last) << "frame " << t << ", input " << j;
  }
}

TEST_P(ConvolutionTest, StreamsAsTheWhole) {
  const torch::NoGradGuard no_grad;
  Random random(7);
  for (const int64_t frames : {1, 3, 4, 5, 16, 17, 73}) {
    const Tensor x = torch::randn({2, frames, 8}), whole = convolution_->forward(x, {});
    for (const int64_t most : {1, 3, 20, 100}) {
      ConvolutionState state;
      std::vector<Tensor> parts;
      InPieces(frames, most, random, [&](int64_t begin, int64_t size, bool final) {
        ConvolutionStep step{.received = begin + size, .final = final, .state = &state};
        for (int64_t t = begin; t < begin + size; ++t) step.positions.push_back(t);
        parts.push_back(convolution_->Stream(x.narrow(1, begin, size), step));
        EXPECT_LE(state.inputs.size(1), GetParam().kernel + 2 * GetParam().chunk);
      });
      EXPECT_TRUE(TensorsMatch(torch::cat(parts, 1), whole, 1e-5)) << frames << " in pieces of up to " << most;
    }
  }
}

// Frames have left: the kernel counts those that stayed, chunks count positions.
TEST_P(ConvolutionTest, StreamsWhatHasStayed) {
  const ConvolutionOptions& o = GetParam();
  const bool causal = o.kind == ConvolutionKind::kCausal, chunked = o.kind == ConvolutionKind::kChunked;
  Random random(5);
  std::vector<int64_t> positions;
  for (int64_t p = 0; p < 90; ++p) {
    if (random.Uniform() < 0.6 && (p < 30 || p > 50)) positions.push_back(p);
  }
  const auto frames = static_cast<int64_t>(positions.size());
  const auto at = [&](int64_t t) { return positions[static_cast<size_t>(t)]; };
  const Tensor x = torch::randn({1, frames, 8});
  const auto whole_of = [&](const Tensor& input) {
    ConvolutionState state;
    return convolution_->Stream(input, {.positions = positions, .received = 90, .final = true, .state = &state});
  };
  Tensor input = x.clone().requires_grad_();
  const Tensor whole = whole_of(input);
  for (int64_t t = 0; t < frames; ++t) {
    const Tensor seen = torch::autograd::grad({whole[0][t].square().sum()}, {input}, {}, true)[0].abs().sum(2)[0];
    for (int64_t j = 0; j < frames; ++j) {
      const bool in_kernel = causal ? j <= t && j > t - o.kernel : std::abs(t - j) <= (o.kernel - 1) / 2;
      EXPECT_EQ(seen[j].item<double>() > 0, in_kernel && (!chunked || at(j) / o.chunk <= at(t) / o.chunk))
          << "frame " << t << ", input " << j;
    }
  }
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(TensorsMatch(whole_of(x), whole, 1e-5)) << "the kernels of inference";
  for (const int64_t most : {1, 5, 40}) {
    ConvolutionState state;
    std::vector<Tensor> parts;
    InPieces(frames, most, random, [&](int64_t begin, int64_t size, bool final) {
      ConvolutionStep step{.final = final, .state = &state};
      for (int64_t t = begin; t < begin + size; ++t) step.positions.push_back(at(t));
      step.received = begin + size < frames ? at(begin + size) : 90;
      parts.push_back(convolution_->Stream(x.narrow(1, begin, size), step));
      // Nothing of a chunk that is past waits.
      for (auto i = static_cast<size_t>(state.given); chunked && i < state.positions.size(); ++i)
        EXPECT_GE(state.positions[i], step.received / o.chunk * o.chunk);
    });
    EXPECT_TRUE(TensorsMatch(torch::cat(parts, 1), whole, 1e-5)) << "in pieces of up to " << most;
  }
}

TEST_P(ConvolutionTest, PaddingChangesNothing) {
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({2, 29, 8});
  const Tensor mask = (torch::arange(29) < torch::tensor({29, 18}).unsqueeze(1)).to(torch::kFloat).unsqueeze(2);
  const Tensor y = convolution_->forward(x, mask);
  EXPECT_TRUE(TensorsMatch(y.narrow(0, 1, 1).narrow(1, 0, 18),
                           convolution_->forward(x.narrow(0, 1, 1).narrow(1, 0, 18), {}), 1e-5));
  EXPECT_TRUE(TensorsMatch(y.narrow(0, 0, 1), convolution_->forward(x.narrow(0, 0, 1), {}), 1e-5));
}

TEST_P(ConvolutionTest, NoFramesGiveNoFrames) {
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(convolution_->forward(torch::zeros({2, 0, 8}), {}).sizes().vec(), (std::vector<int64_t>{2, 0, 8}));
}

INSTANTIATE_TEST_SUITE_P(Kinds, ConvolutionTest,
                         testing::Values(ConvolutionOptions{ConvolutionKind::kSymmetric, 5, 4},
                                         ConvolutionOptions{ConvolutionKind::kSymmetric, 1, 4},
                                         ConvolutionOptions{ConvolutionKind::kCausal, 5, 4},
                                         ConvolutionOptions{ConvolutionKind::kChunked, 5, 4},
                                         ConvolutionOptions{ConvolutionKind::kChunked, 15, 4},
                                         ConvolutionOptions{ConvolutionKind::kChunked, 3, 1},
                                         ConvolutionOptions{ConvolutionKind::kChunked, 1, 16}));

TEST(DropoutTest, SameSeedSameMask) {
  const Tensor x = torch::ones({300, 400});
  SeedDropout(5);
  const Tensor first = Dropout(x, 0.3, true), second = Dropout(x, 0.3, true);
  const double uniform = DropoutUniform();
  SeedDropout(5);
  EXPECT_TRUE(torch::equal(Dropout(x, 0.3, true), first));
  EXPECT_TRUE(torch::equal(Dropout(x, 0.3, true), second));
  EXPECT_EQ(DropoutUniform(), uniform);
  EXPECT_FALSE(torch::equal(first, second));
  SeedDropout(6);
  EXPECT_FALSE(torch::equal(Dropout(x, 0.3, true), first));
  // Other types have the same mask.
  for (const auto type : {torch::kDouble, torch::kBFloat16}) {
    SeedDropout(5);
    const Tensor y = Dropout(x.to(type), 0.3, true);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_TRUE(torch::equal(y == 0, first == 0));
  }
}

TEST(DropoutTest, KeepsTheMeanAndPassesOutsideTraining) {
  SeedDropout(1);
  const Tensor x = torch::ones({1000, 1000});
  for (const double p : {0.1, 0.5, 0.9}) {
    const Tensor y = Dropout(x, p, true);
    // Four standard deviations of a mean of a million Bernoulli draws.
    EXPECT_NEAR((y == 0).to(torch::kDouble).mean().item<double>(), p, 4 * std::sqrt(p * (1 - p) / 1e6));
    EXPECT_NEAR(y.to(torch::kDouble).mean().item<double>(), 1, 4 * std::sqrt(p / (1 - p) / 1e6));
    EXPECT_NEAR(y.max().item<double>(), 1 / (1 - p), 1e-5);
  }
  EXPECT_TRUE(torch::equal(Dropout(x, 0.5, false), x));
  EXPECT_TRUE(torch::equal(Dropout(x, 0, true), x));
}

TEST(DropoutTest, GradientHasTheMaskOfTheForwardPass) {
  SeedDropout(2);
  // Not contiguous, as attention's output is.
  Tensor x = torch::ones({40, 30, 20}).requires_grad_();
  const Tensor y = Dropout(x.transpose(0, 2), 0.4, true);
  const Tensor gradient = torch::autograd::grad({y.sum()}, {x})[0];
  EXPECT_TRUE(torch::equal(gradient, y.transpose(0, 2)));
}

}  // namespace
}  // namespace earshot
