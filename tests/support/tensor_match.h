// Comparison of tensors whose failure says how far apart they are.
//
//   EXPECT_TRUE(TensorsMatch(actual, expected, 1e-5));          // |actual - expected| <= 1e-5 everywhere
//   EXPECT_TRUE(TensorsMatch(actual, expected, 1e-6, 1e-4));    // ... <= 1e-6 + 1e-4 |expected|
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

namespace earshot {

inline testing::AssertionResult TensorsMatch(const torch::Tensor& actual, const torch::Tensor& expected,
                                             double absolute, double relative = 0) {
  if (!actual.defined() || !expected.defined()) {
    if (actual.defined() == expected.defined()) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "only the " << (actual.defined() ? "actual" : "expected")
                                       << " one is defined";
  }
  if (actual.sizes() != expected.sizes())
    return testing::AssertionFailure() << "shape " << actual.sizes() << ", expected " << expected.sizes();
  if (actual.numel() == 0) return testing::AssertionSuccess();
  const torch::Tensor a = actual.detach().to(torch::kCPU, torch::kDouble).flatten();
  const torch::Tensor e = expected.detach().to(torch::kCPU, torch::kDouble).flatten();
  if (!e.isfinite().all().item<bool>()) return testing::AssertionFailure() << "what is expected is not finite";
  const int64_t infinite = a.numel() - a.isfinite().sum().item<int64_t>();
  if (infinite > 0) return testing::AssertionFailure() << infinite << " of " << a.numel() << " values are not finite";
  const torch::Tensor difference = (a - e).abs();
  const torch::Tensor excess = difference - (absolute + relative * e.abs());
  if (excess.max().item<double>() <= 0) return testing::AssertionSuccess();
  const auto worst = excess.argmax().item<int64_t>();
  return testing::AssertionFailure() << "largest absolute difference " << difference.max().item<double>()
                                     << ", largest relative difference "
                                     << (difference / e.abs().clamp_min(1e-12)).max().item<double>() << "; "
                                     << (excess > 0).sum().item<int64_t>() << " of " << a.numel()
                                     << " values are out of tolerance, the worst is [" << worst << "] of shape "
                                     << actual.sizes() << ": " << a[worst].item<double>() << ", expected "
                                     << e[worst].item<double>();
}

}  // namespace earshot
