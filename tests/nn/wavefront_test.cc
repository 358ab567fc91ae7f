#include "src/nn/wavefront.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <stdexcept>

#include "tests/support/threads.h"

namespace earshot {
namespace {

TEST(Wavefront, EachIsBehindTheLayerBeforeAndThePieceBefore) {
  for (const int count : {1, 2, 5}) {
    const Threads threads(count);
    for (const int64_t pieces : {0, 1, 2, 9}) {
      constexpr int64_t kLayers = 7;
      std::vector<std::atomic<bool>> done(static_cast<size_t>(pieces * kLayers));
      std::atomic<int> calls = 0, early = 0;
      Wavefront(pieces, kLayers, [&](int64_t piece, int64_t layer) {
        const auto at = static_cast<size_t>(piece * kLayers + layer);
        if (layer > 0 && !done[at - 1]) ++early;
        if (piece > 0 && !done[at - kLayers]) ++early;
        if (done[at].exchange(true)) ++early;
        ++calls;
      });
      EXPECT_EQ(calls, pieces * kLayers) << count << " threads";
      EXPECT_EQ(early, 0) << count << " threads, " << pieces << " pieces";
    }
  }
}

TEST(Wavefront, WhatFailsEndsItAndReachesTheCaller) {
  for (const int count : {1, 3}) {
    const Threads threads(count);
    std::atomic<bool> went_on = false;
    EXPECT_THROW(Wavefront(6, 4,
                           [&](int64_t piece, int64_t layer) {
                             if (piece == 2 && layer == 1) throw std::runtime_error("no");
                             if (piece > 2 && layer >= 1) went_on = true;
                           }),
                 std::runtime_error);
    EXPECT_FALSE(went_on);
  }
}

TEST(Wavefront, SeesTheModesOfTheCaller) {
  const torch::NoGradGuard no_grad;
  std::atomic<int> with_gradients = 0;
  Wavefront(8, 1, [&](int64_t, int64_t) { with_gradients += torch::GradMode::is_enabled() ? 1 : 0; });
  EXPECT_EQ(with_gradients, 0);
}

}  // namespace
}  // namespace earshot
