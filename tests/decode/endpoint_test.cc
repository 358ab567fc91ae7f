#include "src/decode/endpoint.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace earshot {
namespace {

TEST(EndpointDetector, EndsASentenceAtItsPauseAndSilenceLater) {
  EndpointDetector detector({}, 0.04);
  EXPECT_FALSE(detector.Accept({.frames = 40, .silent_frames = 0, .spoke = true}));
  EXPECT_FALSE(detector.Accept({.frames = 19, .silent_frames = 19, .spoke = true}));
  EXPECT_TRUE(detector.Accept({.frames = 1, .silent_frames = 20, .spoke = true}));
  detector.Reset();
  // The silence before the reset is not counted again.
  EXPECT_FALSE(detector.Accept({.frames = 10, .silent_frames = 200, .spoke = false}));
  EXPECT_FALSE(detector.Accept({.frames = 100, .silent_frames = 300, .spoke = false}));
  EXPECT_TRUE(detector.Accept({.frames = 20, .silent_frames = 320, .spoke = false}));
}

TEST(EndpointDetector, CutsALongSpeechAtAShortRest) {
  EndpointDetector detector({}, 0.04);
  EXPECT_FALSE(detector.Accept({.frames = 499, .silent_frames = 4, .spoke = true}));
  EXPECT_FALSE(detector.Accept({.frames = 5, .silent_frames = 1, .spoke = true}));
  EXPECT_TRUE(detector.Accept({.frames = 5, .silent_frames = 3, .spoke = true}));
}

TEST(EndpointDetector, MayBeSwitchedOff) {
  EndpointDetector detector({.enabled = false}, 0.04);
  EXPECT_FALSE(detector.Accept({.frames = 10000, .silent_frames = 10000, .spoke = true}));
}

TEST(EndpointDetector, RefusesARuleThatAlwaysHolds) {
  EndpointOptions options;
  options.pause = {};
  EXPECT_THROW(EndpointDetector(options, 0.04), Error);
  options.pause = {.min_trailing_silence_s = -1};
  EXPECT_THROW(EndpointDetector(options, 0.04), Error);
}

}  // namespace
}  // namespace earshot
