// The learning rate, flat parameters, AdamW and the moving average.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "src/base/error.h"
#include "src/train/adamw.h"
#include "src/train/flat_parameters.h"
#include "src/train/schedule.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

TEST(ScheduleTest, WarmsUpAndDecays) {
  ScheduleOptions o{.peak_lr = 2, .warmup_steps = 4, .decay = DecayKind::kLinear, .final_share = 0.5};
  EXPECT_DOUBLE_EQ(LearningRate(o, 0, 14), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(o, 3, 14), 2);
  EXPECT_DOUBLE_EQ(LearningRate(o, 4, 14), 2);
  EXPECT_DOUBLE_EQ(LearningRate(o, 9, 14), 1.5);
  EXPECT_DOUBLE_EQ(LearningRate(o, 14, 14), 1);
  EXPECT_DOUBLE_EQ(LearningRate(o, 99, 14), 1);  // a run that goes on
  o.decay = DecayKind::kCosine;
  EXPECT_DOUBLE_EQ(LearningRate(o, 4, 14), 2);
  EXPECT_NEAR(LearningRate(o, 9, 14), 1.5, 1e-12);
  EXPECT_NEAR(LearningRate(o, 6, 14), 2 * (0.5 + 0.25 * (1 + std::cos(M_PI / 5))), 1e-12);
  EXPECT_NEAR(LearningRate(o, 14, 14), 1, 1e-12);
  o.decay = DecayKind::kConstant;
  EXPECT_DOUBLE_EQ(LearningRate(o, 13, 14), 2);
  o.decay = DecayKind::kInverseSqrt;
  EXPECT_DOUBLE_EQ(LearningRate(o, 15, 100), 1);
  // A run shorter than its warm-up, and none.
  o.decay = DecayKind::kCosine;
  EXPECT_DOUBLE_EQ(LearningRate(o, 1, 2), 2);
  o.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(LearningRate(o, 0, 10), 2);
}

TEST(ScheduleTest, OptionsThatCannotBeAreNamed) {
  EXPECT_THROW((ScheduleOptions{.peak_lr = 0}.Validate()), Error);
  EXPECT_THROW((ScheduleOptions{.peak_lr = NAN}.Validate()), Error);
  EXPECT_THROW((ScheduleOptions{.warmup_steps = -1}.Validate()), Error);
  EXPECT_THROW((ScheduleOptions{.final_share = 1.5}.Validate()), Error);
  EXPECT_THROW((AdamWOptions{.beta1 = 1}.Validate()), Error);
  EXPECT_THROW((AdamWOptions{.epsilon = 0}.Validate()), Error);
  EXPECT_NO_THROW(ScheduleOptions().Validate());
  EXPECT_NO_THROW(AdamWOptions().Validate());
}

torch::nn::Sequential Network(torch::ScalarType type = torch::kFloat) {
  torch::nn::Sequential network(torch::nn::Linear(3, 2), torch::nn::LayerNorm(torch::nn::LayerNormOptions({2})));
  network->to(type);
  return network;
}

TEST(FlatParametersTest, ParametersAndGradientsAreViews) {
  torch::manual_seed(1);
  torch::nn::Sequential network = Network();
  const Tensor x = torch::randn({5, 3});
  const Tensor before = network->forward(x).detach();
  const Tensor weight = network->parameters()[0].detach().clone();
  FlatParameters flat(*network);
  EXPECT_TRUE(torch::equal(network->forward(x).detach(), before));
  EXPECT_EQ(flat.values()[0].numel(), 6);      // the matrix decays
  EXPECT_EQ(flat.values()[1].numel(), 2 + 4);  // the biases and the norm do not
  EXPECT_TRUE(torch::equal(flat.values()[0].view({2, 3}), weight));

  const auto gradients = flat.ZerosLike();
  flat.AttachGradients(*network, gradients);
  network->forward(x).square().sum().backward();
  EXPECT_GT(gradients[1].abs().max().item<double>(), 0);
  EXPECT_TRUE(torch::equal(gradients[0].view({2, 3}), network->parameters()[0].grad()));

  // A replica sees every change of the values, without a copy.
  torch::nn::Sequential replica = Network();
  flat.Share(*replica);
  {
    const torch::NoGradGuard no_grad;
    Tensor values = flat.values()[0];
    values.mul_(2);
  }
  EXPECT_TRUE(torch::equal(replica->parameters()[0].detach(), 2 * weight));
  EXPECT_TRUE(torch::equal(network->parameters()[0].detach(), 2 * weight));
  EXPECT_EQ(replica->parameters()[0].data_ptr(), network->parameters()[0].data_ptr());

  torch::nn::Linear other(3, 2);
  EXPECT_THROW(flat.Share(*other), LogicError);
  torch::nn::ReLU empty;
  EXPECT_THROW(FlatParameters nothing(*empty), LogicError);
}

TEST(AdamWTest, FollowsThePaper) {
  torch::manual_seed(2);
  torch::nn::Sequential network = Network(torch::kDouble);
  const FlatParameters flat(*network);
  const AdamWOptions o{.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1};
  AdamW optimizer(o, flat);
  FlatParameters::Pair expected = {flat.values()[0].clone(), flat.values()[1].clone()};
  std::array<std::vector<double>, 2> m, v;
  for (size_t g = 0; g < 2; ++g) m[g].assign(6, 0), v[g].assign(6, 0);
  for (int step = 1; step <= 20; ++step) {
    const double lr = 0.01 * step;
    const FlatParameters::Pair gradients = {torch::randn({6}, torch::kDouble), torch::randn({6}, torch::kDouble)};
    optimizer.Step(gradients, lr);
    // Loshchilov & Hutter 2019, algorithm 2, with the decay scaled by the rate.
    for (size_t g = 0; g < 2; ++g) {
      auto* x = expected[g].data_ptr<double>();
      const auto* gradient = gradients[g].const_data_ptr<double>();
      for (size_t i = 0; i < 6; ++i) {
        m[g][i] = o.beta1 * m[g][i] + (1 - o.beta1) * gradient[i];
        v[g][i] = o.beta2 * v[g][i] + (1 - o.beta2) * gradient[i] * gradient[i];
        const double m_hat = m[g][i] / (1 - std::pow(o.beta1, step)), v_hat = v[g][i] / (1 - std::pow(o.beta2, step));
        x[i] -= lr * (m_hat / (std::sqrt(v_hat) + o.epsilon) + (g == 0 ? o.weight_decay * x[i] : 0));
      }
      EXPECT_TRUE(TensorsMatch(flat.values()[g], expected[g], 1e-12)) << "step " << step;
    }
  }
}

TEST(AdamWTest, SavedAndLoadedGoesOnToTheBit) {
  torch::manual_seed(3);
  torch::nn::Sequential one = Network();
  const FlatParameters flat(*one);
  AdamW optimizer({}, flat);
  WeightAverage average(0.9, flat);
  std::vector<FlatParameters::Pair> gradients;
  for (int i = 0; i < 6; ++i) gradients.push_back({torch::randn({6}), torch::randn({6})});
  for (int i = 0; i < 3; ++i) optimizer.Step(gradients[static_cast<size_t>(i)], 0.1), average.Step(i);
  TensorMap saved;
  optimizer.Save(saved);
  average.Save(saved);
  for (auto& [name, tensor] : saved) tensor = tensor.clone();

  torch::nn::Sequential two = Network();
  const FlatParameters other(*two);
  for (size_t g = 0; g < 2; ++g) {
    Tensor values = other.values()[g];
    values.copy_(flat.values()[g]);
  }
  AdamW resumed({}, other);
  WeightAverage resumed_average(0.9, other);
  resumed.Load(saved, "checkpoint");
  resumed_average.Load(saved, "checkpoint");
  for (int i = 3; i < 6; ++i) {
    optimizer.Step(gradients[static_cast<size_t>(i)], 0.1), average.Step(i);
    resumed.Step(gradients[static_cast<size_t>(i)], 0.1), resumed_average.Step(i);
  }
  for (size_t g = 0; g < 2; ++g) {
    EXPECT_TRUE(torch::equal(other.values()[g], flat.values()[g]));
    EXPECT_TRUE(torch::equal(resumed_average.values()[g], average.values()[g]));
  }
  saved.erase("adamw.steps");
  EXPECT_THROW(resumed.Load(saved, "checkpoint"), Error);
  saved["average.0"] = torch::zeros({5});
  EXPECT_THROW(resumed_average.Load(saved, "checkpoint"), Error);
}

TEST(WeightAverageTest, ForgetsTheFirstWeightsSoon) {
  torch::manual_seed(4);
  torch::nn::Sequential network = Network(torch::kDouble);
  const FlatParameters flat(*network);
  WeightAverage average(0.5, flat);
  Tensor values = flat.values()[0];
  Tensor expected = values.clone();
  EXPECT_TRUE(torch::equal(average.values()[0], expected));
  for (int64_t step = 0; step < 20; ++step) {
    values.normal_();
    average.Step(step);
    const double decay = std::min(0.5, static_cast<double>(1 + step) / static_cast<double>(10 + step));
    expected = decay * expected + (1 - decay) * values;
    EXPECT_TRUE(TensorsMatch(average.values()[0], expected, 1e-12)) << step;
  }
}

}  // namespace
}  // namespace earshot
