#include "src/nn/linear.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "src/base/random.h"
#include "src/nn/encoder.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

constexpr InferencePrecision kPrecisions[] = {InferencePrecision::kFloat, InferencePrecision::kBFloat16,
                                              InferencePrecision::kInt8};

// Relative to the root mean square of what is expected.
double Error(const Tensor& actual, const Tensor& expected) {
  if (expected.numel() == 0) return 0;
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

// float: rounding alone. bf16: 8 bits of each factor and the result. int8: 7 bits of a row's and a column's largest.
double Bound(InferencePrecision precision) {
  return precision == InferencePrecision::kFloat ? 1e-5 : precision == InferencePrecision::kBFloat16 ? 6e-3 : 2e-2;
}

TEST(LinearTest, IsTheLinearLayerOfTorch) {
  torch::manual_seed(5);
  Linear layer(6, 4);
  torch::manual_seed(5);
  torch::nn::Linear expected(6, 4);
  EXPECT_TRUE(torch::equal(layer.weight, expected->weight));
  EXPECT_TRUE(torch::equal(layer.bias, expected->bias));
  Tensor x = torch::randn({2, 3, 6}).requires_grad_();
  EXPECT_TRUE(torch::equal(layer.forward(x), expected->forward(x)));
  layer.forward(x).sum().backward();
  EXPECT_TRUE(layer.weight.grad().defined());
  EXPECT_FALSE(Linear(6, 4, false).bias.defined());
}

TEST(LinearTest, PackedWeightsGiveTheSame) {
  torch::manual_seed(6);
  const torch::NoGradGuard no_grad;
  for (const InferencePrecision precision : kPrecisions) {
    for (const bool bias : {true, false}) {
      for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 3}, {64, 256}, {144, 33}}) {
        Linear layer(in, out, bias);
        layer.eval();
        layer.Prepack(precision);
        for (const int64_t frames : {0, 1, 3, 17, 600}) {
          const Tensor x = torch::randn({2, frames, in});
          const Tensor expected = torch::linear(x, layer.weight, layer.bias);
          const Tensor y = layer.forward(x);
          EXPECT_EQ(y.scalar_type(), torch::kFloat);
          ASSERT_EQ(y.sizes(), expected.sizes());
          // With few inputs the errors do not average out.
          EXPECT_LT(Error(y, expected), Bound(precision) * (in < 16 ? 3 : 1))
              << static_cast<int>(precision) << ": " << frames << " x " << in << " -> " << out;
        }
        const Tensor flat = torch::randn({4, in});
        EXPECT_LT(Error(layer.forward(flat), torch::linear(flat, layer.weight, layer.bias)), Bound(precision) * 3);
      }
    }
  }
}

// So that streaming gives what the whole gives.
TEST(LinearTest, AFrameDoesNotDependOnItsNeighbours) {
  torch::manual_seed(7);
  const torch::NoGradGuard no_grad;
  for (const InferencePrecision precision : kPrecisions) {
    Linear layer(96, 80);
    layer.eval();
    layer.Prepack(precision);
    const Tensor x = torch::randn({1, 300, 96}) * torch::linspace(0.1, 10, 300).view({1, 300, 1});
    const Tensor whole = layer.forward(x);
    for (const int64_t size : {1, 7, 64})
      EXPECT_TRUE(TensorsMatch(layer.forward(x.narrow(1, 40, size)), whole.narrow(1, 40, size), 1e-4, 1e-2));
  }
}

TEST(LinearTest, TrainingDropsPackedWeights) {
  torch::manual_seed(8);
  Linear layer(8, 8);
  layer.eval();
  layer.Prepack(InferencePrecision::kBFloat16);
  layer.train();
  EXPECT_EQ(layer.input_type(), torch::kFloat);
  const torch::NoGradGuard no_grad;
  layer.weight.mul_(2);
  layer.eval();
  const Tensor x = torch::randn({1, 3, 8});
  EXPECT_TRUE(TensorsMatch(layer.forward(x), torch::linear(x, layer.weight, layer.bias), 1e-5));
}

// Two products of the largest numbers are more than 16 bits hold.
TEST(LinearTest, Int8DoesNotSaturate) {
  if (Supported(InferencePrecision::kInt8) != InferencePrecision::kInt8) GTEST_SKIP() << "no int8 on this CPU";
  const torch::NoGradGuard no_grad;
  Linear linear(64, 16);
  linear.weight.fill_(0.5);
  linear.weight[1].fill_(-0.5);
  linear.bias.zero_();
  const torch::Tensor x = torch::stack({torch::full({64}, 2.0), torch::full({64}, -2.0)}).unsqueeze(0);
  const torch::Tensor expected = linear.forward(x);
  Prepack(linear, InferencePrecision::kInt8);
  EXPECT_TRUE(torch::allclose(linear.forward(x), expected, 0.01)) << linear.forward(x);
}

// A whole encoder: in float as before, in bf16 and int8 within what is stated in the documentation.
TEST(LinearTest, APackedEncoderGivesTheSame) {
  torch::manual_seed(9);
  const torch::NoGradGuard no_grad;
  for (const int factor : {4, 8}) {
    EncoderOptions o;
    o.num_layers = 3;
    o.dim = 64;
    o.heads = 2;
    o.feed_forward_dim = 160;
    o.pattern = "local(chunk=16,left=32)";
    o.subsampling = {.factor = factor, .channels = 24};
    auto encoder = std::make_shared<Encoder>(o, 40);
    encoder->eval();
    const Tensor features = torch::randn({2, 403, 40}), lens = torch::tensor({403, 250}, torch::kLong);
    const EncoderOutput expected = encoder->forward(features, lens);
    Random random(9);
    for (const InferencePrecision precision : kPrecisions) {
      Prepack(*encoder, precision);
      const EncoderOutput out = encoder->forward(features, lens);
      const double bound = precision == InferencePrecision::kFloat      ? 1e-4
                           : precision == InferencePrecision::kBFloat16 ? 0.02
                                                                        : 0.04;
      EXPECT_LT(Error(out.x.narrow(0, 0, 1), expected.x.narrow(0, 0, 1)), bound) << static_cast<int>(precision);
      EncoderState state = encoder->StartStream();
      std::vector<Tensor> parts;
      for (int64_t begin = 0; begin < 403;) {
        const int64_t size = std::min<int64_t>(1 + random.Index(150), 403 - begin);
        parts.push_back(encoder->Stream(features.narrow(0, 0, 1).narrow(1, begin, size), begin + size == 403, state).x);
        begin += size;
      }
      const Tensor whole = out.x.narrow(0, 0, 1);
      EXPECT_LT(Error(torch::cat(parts, 1), whole), precision == InferencePrecision::kFloat ? 1e-5 : 5e-3);
    }
  }
}

}  // namespace
}  // namespace earshot
