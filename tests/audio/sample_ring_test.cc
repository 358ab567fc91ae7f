#include "src/audio/sample_ring.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <thread>
#include <vector>

namespace earshot {
namespace {

std::vector<float> PopAll(SampleRing& ring) {
  std::vector<float> mono(1000);
  mono.resize(ring.Pop(mono, 0));
  return mono;
}

TEST(SampleRingTest, GivesTheMeanOfTheChannels) {
  SampleRing ring(10);
  ring.Push(std::vector<float>{0.5f, 0.25f, -1.0f, 0.0f}, 2);
  ring.Push(std::vector<float>{0.125f}, 1);
  EXPECT_EQ(PopAll(ring), (std::vector<float>{0.375f, -0.5f, 0.125f}));
  EXPECT_TRUE(ring.empty());
}

TEST(SampleRingTest, WhatIsNoNumberIsSilence) {
  SampleRing ring(10);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  ring.Push(std::vector<float>{0.5f, inf, nan, -inf, 0.25f}, 1);
  EXPECT_EQ(PopAll(ring), (std::vector<float>{0.5f, 0, 0, 0, 0.25f}));
}

TEST(SampleRingTest, WhatDoesNotFitIsCountedAndTheRestIsWhole) {
  SampleRing ring(4);
  ring.Push(std::vector<float>{1, 2, 3}, 1);
  ring.Push(std::vector<float>{4, 5, 6}, 1);
  ring.Push(std::vector<float>{7}, 1);  // the same gap goes on
  EXPECT_EQ(ring.lost().times, 1);
  EXPECT_EQ(ring.lost().frames, 3);
  EXPECT_EQ(PopAll(ring), (std::vector<float>{1, 2, 3, 4}));
  ring.Push(std::vector<float>{8, 9}, 1);
  EXPECT_EQ(PopAll(ring), (std::vector<float>{8, 9}));
  ring.Push(std::vector<float>{1, 2, 3, 4, 5}, 1);
  ring.CountGap();
  EXPECT_EQ(ring.lost().times, 3);
  EXPECT_EQ(ring.lost().frames, 4);
}

TEST(SampleRingTest, PopWaitsNoLongerThanItMay) {
  SampleRing ring(4);
  std::vector<float> mono(4);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ring.Pop(mono, 30), 0u);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(25));
  ring.Wake();  // noticed by a wait that has begun, not by a later one: nothing is there
  EXPECT_EQ(ring.Pop(mono, 1), 0u);
}

TEST(SampleRingTest, NothingIsLostBetweenTwoThreads) {
  constexpr int kSamples = 300000;
  SampleRing ring(kSamples);
  std::thread writer([&] {
    std::vector<float> block;
    for (int i = 0; i < kSamples; i += 100) {
      block.clear();
      for (int k = i; k < i + 100; ++k) block.push_back(static_cast<float>(k));
      ring.Push(block, 1);
    }
  });
  std::vector<float> mono(777);
  int next = 0, wrong = 0;
  while (next < kSamples) {
    const size_t n = ring.Pop(mono, 1000);
    ASSERT_GT(n, 0u) << "after " << next;
    for (size_t i = 0; i < n; ++i) wrong += mono[i] != static_cast<float>(next++);
  }
  writer.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(ring.lost().times, 0);
}

}  // namespace
}  // namespace earshot
