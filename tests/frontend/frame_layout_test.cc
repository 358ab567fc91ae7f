#include "src/frontend/frame_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace earshot {
namespace {

FrameLayout Layout(FrameEdges edges) { return {.edges = edges, .frame_length = 400, .frame_shift = 160}; }

TEST(FrameLayout, CountsFrames) {
  const FrameLayout snip = Layout(FrameEdges::kSnip), reflect = Layout(FrameEdges::kReflect),
                    center = Layout(FrameEdges::kCenter);
  struct Case {
    int64_t samples, snip, reflect, center;
  };
  for (const Case& c : {Case{0, 0, 0, 0}, Case{79, 0, 0, 1}, Case{80, 0, 1, 1}, Case{399, 0, 2, 3}, Case{400, 1, 3, 3},
                        Case{559, 1, 3, 4}, Case{560, 2, 4, 4}, Case{16000, 98, 100, 101}}) {
    EXPECT_EQ(snip.NumFrames(c.samples), c.snip) << c.samples;
    EXPECT_EQ(reflect.NumFrames(c.samples), c.reflect) << c.samples;
    EXPECT_EQ(center.NumFrames(c.samples), c.center) << c.samples;
  }
}

TEST(FrameLayout, ReadyFramesAreThoseThatEndInTheStream) {
  for (const FrameEdges edges : {FrameEdges::kSnip, FrameEdges::kReflect, FrameEdges::kCenter}) {
    const FrameLayout layout = Layout(edges);
    for (int64_t samples = 0; samples < 3000; ++samples) {
      const int64_t ready = layout.NumFramesReady(samples);
      ASSERT_LE(ready, layout.NumFrames(samples));
      ASSERT_TRUE(ready == 0 || layout.FrameStart(ready - 1) + 400 <= samples) << samples;
      ASSERT_GT(layout.FrameStart(ready) + 400, samples) << samples;
    }
  }
}

TEST(FrameLayout, MirrorsAtBothEnds) {
  const FrameLayout layout = Layout(FrameEdges::kReflect);
  EXPECT_EQ(layout.FrameStart(0), -120);
  EXPECT_EQ(layout.SourceSample(-1, 1000), 0);
  EXPECT_EQ(layout.SourceSample(-120, 1000), 119);
  EXPECT_EQ(layout.SourceSample(1000, 1000), 999);
  EXPECT_EQ(layout.SourceSample(1003, 1000), 996);
  EXPECT_EQ(layout.SourceSample(7, 3), 1);   // to and fro: 0 1 2 2 1 0 0 1
  EXPECT_EQ(layout.SourceSample(-5, 3), 1);  // ... 1 2 2 1 0 before 0
  EXPECT_EQ(layout.SourceSample(5000, -1), 5000);
}

TEST(FrameLayout, CenteredFramesSeeZerosBeyondTheEnds) {
  const FrameLayout layout = Layout(FrameEdges::kCenter);
  EXPECT_EQ(layout.FrameStart(0), -200);
  EXPECT_EQ(layout.SourceSample(-1, 1000), -1);
  EXPECT_EQ(layout.SourceSample(999, 1000), 999);
  EXPECT_EQ(layout.SourceSample(1000, 1000), -1);
}

TEST(FrameLayout, NoFrameReadsBeforeTheFirstSampleNeeded) {
  for (const FrameEdges edges : {FrameEdges::kSnip, FrameEdges::kReflect, FrameEdges::kCenter}) {
    const FrameLayout layout = Layout(edges);
    for (const int64_t num_samples : {80, 333, 401, 1000, 4567}) {
      for (int64_t t = 0; t < layout.NumFrames(num_samples); ++t) {
        int64_t first = num_samples;
        for (int64_t i = 0; i < 400; ++i) {
          const int64_t source = layout.SourceSample(layout.FrameStart(t) + i, num_samples);
          if (source >= 0) first = std::min(first, source);
        }
        ASSERT_GE(first, layout.FirstSampleNeeded(t)) << num_samples << " samples, frame " << t;
      }
    }
  }
}

}  // namespace
}  // namespace earshot
