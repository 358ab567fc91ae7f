#include "src/nn/inference.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "src/nn/rotary.h"
#include "tests/support/simd_guard.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

// Every function at every level, for these numbers of frames and channels: none, one, odd ones, more than a tile.
constexpr int64_t kFrames[] = {0, 1, 7, 8, 9, 61};
constexpr int64_t kDims[] = {1, 3, 16, 23, 64, 144};

// What a value of the type may be off by: half a unit of bf16; half a step of int8, of the row's largest.
Tensor Tolerance(const Tensor& expected, torch::ScalarType type) {
  if (type == torch::kChar) return expected.abs().amax(-1, true).expand_as(expected) * (0.5 / 127 + 2e-3) + 1e-5;
  return type == torch::kBFloat16 ? expected.abs() * (1.0 / 256) + 1e-5 : expected.abs() * 2e-6 + 1e-5;
}

Tensor ValueOf(const Activation& x) {
  const Tensor values = x.values.to(torch::kFloat);
  return x.scale.defined() ? values * x.scale.unsqueeze(-1) : values;
}

testing::AssertionResult Agrees(const Activation& actual, const Tensor& expected, torch::ScalarType type) {
  if (actual.values.scalar_type() != type) return testing::AssertionFailure() << "is of another type";
  if (actual.values.sizes() != expected.sizes()) return TensorsMatch(actual.values, expected, 0);
  if (expected.numel() == 0) return testing::AssertionSuccess();
  const Tensor difference = (ValueOf(actual) - expected).abs();
  const double excess = (difference - Tolerance(expected, type)).max().item<double>();
  if (excess <= 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "largest difference " << difference.max().item<double>() << ", " << excess
                                     << " beyond what " << c10::toString(type) << " explains";
}

constexpr torch::ScalarType kTypes[] = {torch::kFloat, torch::kBFloat16, torch::kChar};

class InferenceTest : public testing::TestWithParam<std::tuple<int64_t, int64_t>> {
 protected:
  void SetUp() override {
    torch::manual_seed(3);
    std::tie(frames_, dim_) = GetParam();
    norm_ = torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim_}));
    const torch::NoGradGuard no_grad;
    norm_->weight.normal_(1, 0.3);
    norm_->bias.normal_(0, 0.3);
  }

  Tensor Random(int64_t dim) const { return torch::randn({2, frames_, dim}); }

  // A linear layer's output in each of its forms, with the value that is meant.
  std::vector<std::pair<Product, Tensor>> Products(int64_t dim) const {
    const Tensor plain = Random(dim), narrow = Random(dim).to(torch::kBFloat16);
    const Product scaled{.values = Random(dim).to(torch::kBFloat16),
                         .scale = torch::rand({2, frames_}) + 0.5,
                         .bias = torch::randn({dim})};
    return {{{.values = plain}, plain},
            {{.values = narrow}, narrow.to(torch::kFloat)},
            {scaled, scaled.values.to(torch::kFloat) * scaled.scale.unsqueeze(-1) + scaled.bias}};
  }
  static Product Copy(const Product& x) { return {.values = x.values.clone(), .scale = x.scale, .bias = x.bias}; }

  template <class F>
  void AtEveryLevel(const F& f) {
    const torch::NoGradGuard no_grad;
    for (const SimdLevel level : SupportedSimdLevels()) {
      const ScopedSimdLevel guard(level);
      SCOPED_TRACE(Name(level));
      f();
    }
  }

  int64_t frames_ = 0, dim_ = 0;
  torch::nn::LayerNorm norm_{nullptr};
};

TEST_P(InferenceTest, Norms) {
  AtEveryLevel([&] {
    if (dim_ < 16) return;  // a norm over so few magnifies any rounding
    // Far from 0 a variance by the mean of squares would lose its digits.
    const Tensor far = Random(dim_) + 100;
    EXPECT_TRUE(TensorsMatch(Normalize(far, *norm_, torch::kFloat).values, norm_(far), 5e-4));
    const Tensor y = Random(dim_);
    for (const auto type : kTypes) EXPECT_TRUE(Agrees(Normalize(y, *norm_, type), norm_(y), type));
  });
}

TEST_P(InferenceTest, Sums) {
  AtEveryLevel([&] {
    for (const auto& [product, value] : Products(dim_)) {
      for (const bool gated : {false, true}) {
        const Tensor gate = gated ? torch::rand({2, frames_, 1}) : Tensor();
        const Tensor x = Random(dim_), sum = x + 0.5 * (gated ? gate * value : value);
        const auto residual = [&](const Tensor& from) {
          return Residual{.x = from, .y = product, .alpha = 0.5, .gate = gate};
        };
        EXPECT_TRUE(TensorsMatch(Sum(residual(x)), sum, 1e-5));
        if (dim_ >= 16) {
          EXPECT_TRUE(TensorsMatch(NormalizedSum(residual(x), *norm_), norm_(sum), 2e-4));
        }
        for (const auto type : kTypes) {
          const Tensor becomes_sum = x.clone();
          const Activation normed = SumNorm(residual(becomes_sum), *norm_, type);
          EXPECT_TRUE(TensorsMatch(becomes_sum, sum, 1e-5));
          if (dim_ >= 16) {
            EXPECT_TRUE(Agrees(normed, norm_(sum), type));
          }
        }
      }
    }
  });
}

TEST_P(InferenceTest, Functions) {
  AtEveryLevel([&] {
    for (const auto& [product, value] : Products(dim_)) {
      EXPECT_TRUE(TensorsMatch(Copy(product).Value(), value, 1e-5, 1.0 / 128));
      for (const auto type : kTypes) {
        EXPECT_TRUE(Agrees(Silu(Copy(product), type), torch::silu(value), type));
        EXPECT_TRUE(Agrees(Relu(Copy(product), type), torch::relu(value), type));
        if (!product.bias.defined()) {
          EXPECT_TRUE(Agrees(Convert(product.values, type), value, type));
        }
      }
    }
    const Tensor mask = (torch::rand({2, frames_, 1}) > 0.3).to(torch::kFloat);
    for (const auto& [product, value] : Products(2 * dim_)) {
      const double relative = product.values.scalar_type() == torch::kFloat ? 1e-5 : 2e-4;
      EXPECT_TRUE(TensorsMatch(Glu(product, {}), torch::glu(value, -1), 1e-5, relative));
      EXPECT_TRUE(TensorsMatch(Glu(product, mask), torch::glu(value, -1) * mask, 1e-5, relative));
    }
  });
}

TEST_P(InferenceTest, RotaryPositions) {
  AtEveryLevel([&] {
    constexpr int64_t kHeads = 6;
    const int64_t d = 2 * dim_;
    const RotaryTable table = MakeRotaryTable(1000, frames_, d, torch::kCPU);
    for (const auto& [product, value] : Products(kHeads * d)) {
      const Tensor heads = value.view({2, frames_, kHeads, d}).transpose(1, 2);  // (N, H, T, d)
      for (const int64_t rotated : {0, 4, 6}) {
        const Tensor expected = torch::cat(
            {ApplyRotary(heads.narrow(1, 0, rotated), table), heads.narrow(1, rotated, kHeads - rotated)}, 1);
        const Tensor actual = Rotate(Copy(product), rotated, table.cos, table.sin).view({2, frames_, kHeads, d});
        const bool narrow = product.values.scalar_type() == torch::kBFloat16;
        EXPECT_TRUE(TensorsMatch(actual.transpose(1, 2), expected, 1e-5, narrow ? 1.0 / 256 : 1e-5));
      }
    }
  });
}

TEST_P(InferenceTest, DepthwiseConvolutions) {
  AtEveryLevel([&] {
    for (const int64_t kernel : {1, 3, 15, 31}) {
      const Tensor weight = torch::randn({dim_, 1, kernel}) / std::sqrt(static_cast<double>(kernel));
      const Tensor bias = torch::randn({dim_}), x = Random(dim_);
      const Tensor packed = PackDepthwise(weight);
      for (const int64_t before : {kernel - 1, (kernel - 1) / 2}) {
        for (const int64_t chunk : {0, 4, 16}) {
          Tensor expected = torch::empty_like(x);
          const int64_t size = chunk == 0 ? std::max<int64_t>(frames_, 1) : chunk;
          for (int64_t begin = 0; begin < frames_; begin += size) {
            // All that the chunk sees, zeros beyond it.
            const int64_t end = std::min(begin + size, frames_);
            const Tensor seen =
                torch::constant_pad_nd(x.narrow(1, 0, end).transpose(1, 2), {before, kernel - 1 - before});
            const Tensor out =
                torch::conv1d(seen, weight, bias, 1, torch::IntArrayRef({0}), 1, dim_).transpose(1, 2);  // (N, end, D)
            expected.narrow(1, begin, end - begin).copy_(out.narrow(1, begin, end - begin));
          }
          expected = torch::silu(norm_(expected));
          if (dim_ < 16) continue;
          DepthwiseOptions options{.weight = packed, .bias = bias, .kernel = kernel, .before = before};
          const auto set_ends = [&](int64_t from, int64_t count) {
            options.ends.clear();
            for (int64_t t = from; chunk > 0 && t < from + count; ++t)
              options.ends.push_back(std::min(frames_, (t / size + 1) * size));
          };
          set_ends(0, frames_);
          for (const auto type : kTypes) {
            EXPECT_TRUE(Agrees(DepthwiseNormSilu(x, 0, frames_, options, *norm_, type), expected, type))
                << "kernel " << kernel << ", before " << before << ", chunk " << chunk;
          }
          const int64_t first = frames_ / 3, num = frames_ - first - frames_ / 5;
          set_ends(first, num);
          EXPECT_TRUE(Agrees(DepthwiseNormSilu(x, first, num, options, *norm_, torch::kFloat),
                             expected.narrow(1, first, num), torch::kFloat))
              << "kernel " << kernel << ", before " << before << ", chunk " << chunk << ", part";
        }
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, InferenceTest, testing::Combine(testing::ValuesIn(kFrames), testing::ValuesIn(kDims)));

TEST(InferenceTest, StridedConvolutions) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(4);
  for (const SimdLevel level : SupportedSimdLevels()) {
    const ScopedSimdLevel guard(level);
    for (const int64_t bins : {1, 2, 7, 8, 80}) {
      for (const int64_t channels : {1, 5, 16, 33}) {
        for (const int64_t frames : {0, 1, 8, 19}) {
          const Tensor first = torch::randn({channels, 1, 3, 3}), first_bias = torch::randn({channels});
          const Tensor second = torch::randn({channels, 1, 3, 3}), second_bias = torch::randn({channels});
          const Tensor x = torch::randn({2, 4 * frames + 3, bins});
          const auto conv = [](const Tensor& in, const Tensor& weight, const Tensor& bias, int64_t groups) {
            return torch::conv2d(in, weight, bias, 2, torch::IntArrayRef({0, 1}), 1, groups);
          };
          const Tensor half = torch::relu(conv(x.unsqueeze(1), first, first_bias, 1));  // (N, channels, 2 t + 1, bins)
          Tensor expected = torch::zeros({2, 0, ((bins + 1) / 2 + 1) / 2, channels});
          if (frames > 0) expected = conv(half, second, second_bias, channels).permute({0, 2, 3, 1}).contiguous();
          const StrideWeights one = PackStride(first, first_bias), two = PackStride(second, second_bias);
          EXPECT_TRUE(TensorsMatch(SubsampleTwice(x, one, two, torch::kFloat), expected, 1e-4)) << Name(level);
          EXPECT_TRUE(TensorsMatch(SubsampleTwice(x, one, two, torch::kBFloat16), expected, 1e-4, 1.0 / 200));
          const Tensor last = half.permute({0, 2, 3, 1}).contiguous();  // (N, 2 t + 1, bins, channels)
          EXPECT_TRUE(TensorsMatch(SubsampleOnce(last, two, torch::kFloat), expected, 1e-4)) << Name(level);
        }
      }
    }
  }
}

TEST(InferenceTest, IsForEvaluationInFloatOnTheCpuAlone) {
  torch::nn::LayerNorm module(torch::nn::LayerNormOptions({4}));
  const Tensor x = torch::randn({1, 2, 4});
  EXPECT_FALSE(ForInference(*module, x));
  module->eval();
  EXPECT_FALSE(ForInference(*module, x)) << "gradients are on";
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(ForInference(*module, x));
  EXPECT_FALSE(ForInference(*module, x.to(torch::kDouble)));
  module->train();
  EXPECT_FALSE(ForInference(*module, x));
}

}  // namespace
}  // namespace earshot
