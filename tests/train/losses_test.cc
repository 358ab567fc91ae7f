// Losses against sums over all paths, and the batches they are computed of.
#include "src/train/losses.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "src/base/error.h"
#include "src/train/collate.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

// -log of the sum over all paths of `frames` frames that give the tokens; log_probs: (T', V), differentiable.
Tensor CtcOfAllPaths(const Tensor& log_probs, int64_t frames, const std::vector<int>& tokens) {
  const auto vocab = static_cast<int>(log_probs.size(1));
  std::vector<Tensor> scores;
  std::vector<int> path(static_cast<size_t>(frames), 0);
  while (true) {
    std::vector<int> collapsed;
    int last = 0;
    for (const int token : path) {
      if (token != last && token != 0) collapsed.push_back(token);
      last = token;
    }
    if (collapsed == tokens) {
      Tensor score = torch::zeros({}, log_probs.options());
      for (size_t t = 0; t < path.size(); ++t) score = score + log_probs[static_cast<int64_t>(t)][path[t]];
      scores.push_back(score);
    }
    size_t t = 0;
    while (t < path.size() && ++path[t] == vocab) path[t++] = 0;
    if (t == path.size()) break;
  }
  if (scores.empty()) return torch::zeros({}, log_probs.options());  // impossible: counts nothing
  return -torch::logsumexp(torch::stack(scores), 0);
}

Tensor Int64(const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64); }

class LossesTest : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(1); }
  // Three utterances: of 5, 4 and 3 frames; the last one's text does not fit.
  const std::vector<std::vector<int>> texts_ = {{1, 2, 2}, {}, {1, 1, 2}};
  const CtcTargets targets_ = {.tokens = Int64({1, 2, 2, 1, 1, 2}), .lens = Int64({3, 0, 3})};
  const Tensor lens_ = Int64({5, 4, 3});
  const LossOptions plain_ = {.intermediate_weight = 0, .gate_weight = 0};

  Tensor AllPaths(const Tensor& log_probs) const {
    std::vector<Tensor> each;
    for (int64_t n = 0; n < log_probs.size(0); ++n)
      each.push_back(CtcOfAllPaths(log_probs[n], lens_[n % 3].item<int64_t>(), texts_[static_cast<size_t>(n % 3)]));
    return torch::stack(each);
  }
};

TEST_F(LossesTest, CtcIsTheSumOverAllPathsAndSoIsItsGradient) {
  Tensor logits = torch::randn({3, 5, 3}, torch::kDouble).requires_grad_();
  const Tensor log_probs = torch::log_softmax(logits, 2);
  const Losses losses = ComputeLosses({.log_probs = log_probs, .lens = lens_}, targets_, 1, plain_);
  const Tensor expected = AllPaths(log_probs);
  EXPECT_TRUE(TensorsMatch(losses.ctc, expected, 1e-5));
  EXPECT_TRUE(TensorsMatch(losses.total, expected.sum(), 1e-5));
  EXPECT_EQ(losses.ctc[2].item<double>(), 0);
  EXPECT_FALSE(losses.ctc.requires_grad());
  EXPECT_TRUE(TensorsMatch(torch::autograd::grad({losses.total}, {logits}, {}, true)[0],
                           torch::autograd::grad({expected.sum()}, {logits}, {}, true)[0], 1e-5));
}

TEST_F(LossesTest, IntermediateLossesTakeTheirShare) {
  const auto draw = [] { return torch::log_softmax(torch::randn({3, 5, 3}), 2); };
  const CtcOutput output = {.log_probs = draw(), .lens = lens_, .intermediate = {draw(), draw()}};
  const Losses losses = ComputeLosses(output, targets_, 1, {.intermediate_weight = 0.25, .gate_weight = 0});
  const Tensor final = AllPaths(output.log_probs).sum();
  const Tensor mean = 0.5 * (AllPaths(output.intermediate[0]).sum() + AllPaths(output.intermediate[1]).sum());
  EXPECT_NEAR(losses.intermediate, mean.item<double>(), 1e-4);
  EXPECT_TRUE(TensorsMatch(losses.total, 0.75 * final + 0.25 * mean, 1e-4));
}

TEST_F(LossesTest, TwoEqualViewsCountAsOne) {
  const Tensor view = torch::log_softmax(torch::randn({3, 5, 3}), 2);
  const Losses one = ComputeLosses({.log_probs = view, .lens = lens_}, targets_, 1, plain_);
  Tensor both = torch::cat({view, view}).requires_grad_();
  LossOptions options = plain_;
  options.consistency_weight = 10;
  const Losses two = ComputeLosses({.log_probs = both, .lens = torch::cat({lens_, lens_})}, targets_, 2, options);
  EXPECT_NEAR(two.consistency, 0, 1e-6);
  EXPECT_TRUE(TensorsMatch(two.ctc, one.ctc, 1e-6));
  EXPECT_TRUE(TensorsMatch(two.total, one.total, 1e-5));
}

TEST_F(LossesTest, DistillationDrawsToTheTeacher) {
  const Tensor teacher = torch::log_softmax(torch::randn({3, 5, 3}), 2);
  Tensor logits = torch::randn({3, 5, 3}).requires_grad_();
  const CtcOutput output = {.log_probs = torch::log_softmax(logits, 2), .lens = lens_};
  LossOptions options = plain_;
  options.distillation_weight = 2;
  const Losses with = ComputeLosses(output, targets_, 1, options, teacher),
               without = ComputeLosses(output, targets_, 1, options);
  EXPECT_EQ(without.distillation, 0);
  // KL(teacher || output), whose gradient is q - p for the logits of a frame that is there.
  const Tensor p = teacher.exp(), q = output.log_probs.detach().exp();
  double expected = 0;
  Tensor by_hand = torch::zeros_like(p);
  for (int64_t n = 0; n < 3; ++n) {
    const int64_t frames = lens_[n].item<int64_t>();
    expected += (p[n] * (teacher[n] - output.log_probs[n])).narrow(0, 0, frames).sum().item<double>();
    by_hand[n].narrow(0, 0, frames).copy_(2 * (q[n] - p[n]).narrow(0, 0, frames));
  }
  EXPECT_NEAR(with.distillation, expected, 1e-4);
  const Tensor gradient = torch::autograd::grad({with.total - without.total}, {logits})[0];
  EXPECT_TRUE(TensorsMatch(gradient, by_hand, 1e-5));
}

TEST_F(LossesTest, ConsistencyDrawsTheViewsTogether) {
  Tensor logits = torch::randn({6, 5, 3}).requires_grad_();
  const CtcOutput output = {.log_probs = torch::log_softmax(logits, 2), .lens = torch::cat({lens_, lens_})};
  LossOptions options = plain_;
  const auto total = [&](double weight) {
    options.consistency_weight = weight;
    return ComputeLosses(output, targets_, 2, options);
  };
  // 1/2 (KL(a, b) + KL(b, a)) = 1/2 sum (a - b) (log a - log b) over the frames that are there.
  double expected = 0;
  for (int64_t n = 0; n < 3; ++n) {
    for (int64_t t = 0; t < lens_[n].item<int64_t>(); ++t) {
      const Tensor a = output.log_probs[n][t], b = output.log_probs[n + 3][t];
      expected += 0.5 * ((a.exp() - b.exp()) * (a - b)).sum().item<double>();
    }
  }
  EXPECT_NEAR(total(0).consistency, expected, 1e-4);
  EXPECT_NEAR(total(2).total.item<double>() - total(0).total.item<double>(), 2 * expected, 1e-4);
  // Each view is drawn to the other held fixed: for logits that is 1/2 (p - q).
  const Tensor gradient = torch::autograd::grad({total(1).total - total(0).total}, {logits}, {}, true)[0];
  const Tensor p = output.log_probs.detach().exp();
  Tensor by_hand = torch::zeros_like(p);
  for (int64_t n = 0; n < 6; ++n) {
    const int64_t frames = lens_[n % 3].item<int64_t>();
    by_hand[n].narrow(0, 0, frames).copy_(0.5 * (p[n] - p[(n + 3) % 6]).narrow(0, 0, frames));
  }
  EXPECT_TRUE(TensorsMatch(gradient, by_hand, 1e-5));
}

TEST_F(LossesTest, FrameLossCountsLabelledFrames) {
  CtcTargets targets = targets_;
  targets.frame_labels = Int64({1, 2, 0, -1, -1, /**/ -1, -1, -1, -1, -1, /**/ 0, 1, 1, -1, -1}).view({3, 5});
  const Tensor logits = torch::randn({3, 5, 3});
  CtcOutput output = {
      .log_probs = torch::log_softmax(torch::randn({3, 5, 3}), 2), .lens = lens_, .frame_logits = logits};
  LossOptions options = plain_;
  const double without = ComputeLosses(output, targets, 1, options).total.item<double>();
  options.frame_weight = 0.5;
  const Losses losses = ComputeLosses(output, targets, 1, options);
  double expected = 0;
  const Tensor log_probs = torch::log_softmax(logits, 2);
  for (int64_t n = 0; n < 3; ++n) {
    for (int64_t t = 0; t < 5; ++t) {
      const auto label = targets.frame_labels[n][t].item<int64_t>();
      if (label >= 0) expected -= log_probs[n][t][label].item<double>();
    }
  }
  EXPECT_NEAR(losses.frame, expected, 1e-4);
  EXPECT_NEAR(losses.total.item<double>() - without, 0.5 * expected, 1e-4);
  EXPECT_DOUBLE_EQ(FrameWeight({.frame_weight = 2, .frame_share = 0.5}, 0), 2);
  EXPECT_DOUBLE_EQ(FrameWeight({.frame_weight = 2, .frame_share = 0.5}, 0.25), 1);
  EXPECT_DOUBLE_EQ(FrameWeight({.frame_weight = 2, .frame_share = 0.5}, 0.8), 0);
}

TEST_F(LossesTest, GateBudgetCountsWhatIsAboveTheTarget) {
  const Tensor log_probs = torch::log_softmax(torch::randn({3, 5, 3}), 2);
  // Means over the valid frames: 0.8, 0.3, 0.9; what stands behind the end does not count.
  Tensor gate = torch::tensor({0.6F, 0.7F, 0.8F, 0.9F, 1.0F, /**/ 0.3F, 0.3F, 0.3F, 0.3F, 9.0F, /**/ 0.8F, 0.9F, 1.0F,
                               9.0F, 9.0F})
                    .view({3, 5})
                    .requires_grad_();
  LossOptions options = plain_;
  options.gate_weight = 2;
  options.gate_target = 0.5;
  const Losses losses = ComputeLosses({.log_probs = log_probs, .lens = lens_, .gate = gate}, targets_, 1, options);
  EXPECT_NEAR(losses.gate, 0.09 + 0.16, 1e-5);
  EXPECT_NEAR(losses.total.item<double>(), AllPaths(log_probs).sum().item<double>() + 2 * 0.25, 1e-4);
  // A gate without parameters has no budget.
  EXPECT_EQ(ComputeLosses({.log_probs = log_probs, .lens = lens_, .gate = gate.detach()}, targets_, 1, options).gate,
            0);
}

TEST_F(LossesTest, TheGateLearnsSpeechWhereItIsKnown) {
  const Tensor log_probs = torch::log_softmax(torch::randn({3, 5, 3}), 2);
  const Tensor gate = torch::full({3, 5}, 0.8, torch::kFloat).requires_grad_();
  CtcTargets targets = targets_;
  targets.frame_labels = Int64({1, 2, 0, -1, -1, /**/ -1, -1, -1, -1, -1, /**/ 0, 0, 0, -1, -1}).view({3, 5});
  const LossOptions options = {.gate_weight = 0, .gate_speech_weight = 2};
  const CtcOutput output = {.log_probs = log_probs, .lens = lens_, .gate = gate};
  const Losses losses = ComputeLosses(output, targets, 1, options);
  // Means over the frames that are known, of which the second utterance has none.
  const double expected = -(2 * std::log(0.8) + std::log(0.2)) / 3 - std::log(0.2);
  EXPECT_NEAR(losses.gate_speech, expected, 1e-5);
  EXPECT_NEAR(losses.total.item<double>(), losses.ctc.sum().item<double>() + 2 * expected, 1e-4);
  losses.total.backward();
  EXPECT_LT(gate.grad()[0][0].item<double>(), 0);
  EXPECT_GT(gate.grad()[0][2].item<double>(), 0);
  EXPECT_EQ(gate.grad()[1].abs().max().item<double>(), 0);
  EXPECT_EQ(gate.grad()[0][4].item<double>(), 0);

  // Where speech has its level, silence alone counts.
  LossOptions levelled = options;
  levelled.gate_speech_level = 0.6;
  EXPECT_NEAR(ComputeLosses(output, targets, 1, levelled).gate_speech, -std::log(0.2) / 3 - std::log(0.2), 1e-5);
  levelled.gate_speech_level = 0.9;
  EXPECT_NEAR(ComputeLosses(output, targets, 1, levelled).gate_speech,
              -(2 * std::log(0.8 / 0.9) + std::log(0.2)) / 3 - std::log(0.2), 1e-5);
}

TEST(LossOptionsTest, WhatCannotBeIsNamed) {
  EXPECT_NO_THROW(LossOptions().Validate());
  EXPECT_THROW((LossOptions{.intermediate_weight = 1.5}.Validate()), Error);
  EXPECT_THROW((LossOptions{.consistency_weight = -1}.Validate()), Error);
  EXPECT_THROW((LossOptions{.gate_speech_level = 0}.Validate()), Error);
  EXPECT_THROW((LossOptions{.distillation_weight = -1}.Validate()), Error);
  EXPECT_THROW((LossOptions{.frame_share = 0}.Validate()), Error);
  EXPECT_THROW((LossOptions{.gate_target = NAN}.Validate()), Error);
}

Example MakeTestExample(int64_t frames, int dim, std::vector<int> tokens) {
  Example e{.id = "e", .num_frames = frames, .tokens = std::move(tokens)};
  for (int64_t i = 0; i < frames * dim; ++i) e.features.push_back(static_cast<float>(i + 1));
  e.duration_s = 0.01 * static_cast<double>(frames);
  return e;
}

TEST(CollateTest, PadsNormalisesAndLabels) {
  Example a = MakeTestExample(9, 2, {4, 5}), b = MakeTestExample(6, 2, {7});
  // Encoder frames of 40 ms have their centres at 20, 60 and 100 ms.
  a.token_spans = {{.token = 4, .start_s = 0.0, .end_s = 0.03}, {.token = 5, .start_s = 0.09, .end_s = 0.12}};
  a.duration_s = 0.09;
  const GlobalCmvn cmvn = {{1, 2}, {0.5, 2}};
  const std::vector<const Example*> examples = {&a, &b};
  const Collated c = Collate(examples, {.dim = 2, .cmvn = &cmvn});
  ASSERT_EQ(c.features.sizes().vec(), (std::vector<int64_t>{2, 9, 2}));
  EXPECT_EQ(c.features[0][3][0].item<double>(), (7 - 1) * 0.5);
  EXPECT_EQ(c.features[1][5][1].item<double>(), (12 - 2) * 2);
  EXPECT_EQ(c.features[1].narrow(0, 6, 3).abs().max().item<double>(), 0);
  EXPECT_TRUE(torch::equal(c.lens, Int64({9, 6})));
  EXPECT_TRUE(torch::equal(c.targets.tokens, Int64({4, 5, 7})));
  EXPECT_TRUE(torch::equal(c.targets.lens, Int64({2, 1})));
  // b has no alignment.
  EXPECT_TRUE(torch::equal(c.targets.frame_labels, Int64({4, 0, 5, -1, -1, -1}).view({2, 3})));
}

TEST(CollateTest, ViewsAreMaskedByDrawsOfTheirOwn) {
  const Example a = MakeTestExample(60, 8, {1}), b = MakeTestExample(50, 8, {2});
  const SpecAugmentOptions masks = {.freq_mask_bins = 4, .time_mask_frames = 20, .time_mask_share = 1};
  const std::vector<const Example*> examples = {&a, &b};
  const Collated c = Collate(examples, {.dim = 8, .num_views = 2, .spec_augment = &masks, .seed = 5});
  ASSERT_EQ(c.features.size(0), 4);
  EXPECT_TRUE(torch::equal(c.lens, Int64({60, 50, 60, 50})));
  EXPECT_EQ(c.targets.lens.size(0), 2);
  EXPECT_FALSE(torch::equal(c.features[0], c.features[2]));
  const Collated again = Collate(examples, {.dim = 8, .num_views = 2, .spec_augment = &masks, .seed = 5});
  EXPECT_TRUE(torch::equal(c.features, again.features));
  const Collated other = Collate(examples, {.dim = 8, .num_views = 2, .spec_augment = &masks, .seed = 6});
  EXPECT_FALSE(torch::equal(c.features, other.features));
  // A value is what it was, or masked.
  const Tensor whole = torch::tensor(a.features).view({60, 8});
  EXPECT_TRUE(((c.features[0] == whole) | (c.features[0] == 0)).all().item<bool>());
}

}  // namespace
}  // namespace earshot
