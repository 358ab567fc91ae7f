#include "src/nn/frame_skipper.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

// A frame stays when one within the guard, on either side, is worth hearing.
std::vector<bool> Expected(const std::vector<bool>& worth, int64_t guard) {
  const auto count = static_cast<int64_t>(worth.size());
  std::vector<bool> keep(worth.size());
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = std::max<int64_t>(0, i - guard); j <= std::min(count - 1, i + guard); ++j) {
      if (worth[static_cast<size_t>(j)]) keep[static_cast<size_t>(i)] = true;
    }
  }
  return keep;
}

TEST(FrameSkipperTest, KeepsWhatIsWorthHearingAndItsGuardInAnyPieces) {
  Random random(1);
  for (int draw = 0; draw < 300; ++draw) {
    const int64_t frames = random.Index(60), guard = random.Index(5);
    const FrameSkipper skipper(
        {.from_layer = 1, .threshold = 0.5, .blank_threshold = 0.9, .guard_frames = static_cast<int>(guard)});
    const bool with_blank = random.Chance(0.5);
    torch::Tensor gate = torch::full({1, frames, 1}, 0.1), blank = torch::full({1, frames}, 0.99);
    std::vector<bool> worth(static_cast<size_t>(frames));
    for (int64_t i = 0; i < frames; ++i) {
      if (random.Chance(0.1)) gate[0][i] = 0.5, worth[static_cast<size_t>(i)] = true;
      if (with_blank && random.Chance(0.05)) blank[0][i] = 0.2, worth[static_cast<size_t>(i)] = true;
    }
    const torch::Tensor x = torch::arange(1, frames + 1, torch::kFloat).view({1, frames, 1});
    SkipState state;
    std::vector<bool> keep;
    std::vector<torch::Tensor> values, gates;
    // Kept frames come out of the blocks in between later than they went in.
    GatedFrames between{.x = x.narrow(1, 0, 0), .gate = gate.narrow(1, 0, 0)};
    for (int64_t begin = 0; begin <= frames;) {
      const int64_t size = std::min(random.Index(9), frames - begin);
      const bool final = begin + size == frames;
      const GatedFrames piece{.x = x.narrow(1, begin, size),
                              .gate = gate.narrow(1, begin, size),
                              .positions = FramePositions::Range(begin, size)};
      const GatedFrames kept =
          skipper.TakeOut(piece, with_blank ? blank.narrow(1, begin, size) : torch::Tensor(), final, state);
      for (int64_t i = 0; i < kept.positions.size(); ++i)
        EXPECT_EQ(kept.x[0][i][0].item<double>(), kept.positions.at[static_cast<size_t>(i)] + 1);
      begin += size;
      EXPECT_GE(kept.positions.received, begin - guard);  // nobody waits longer than for the guard
      if (final) EXPECT_EQ(kept.positions.received, frames);
      between.x = torch::cat({between.x, kept.x}, 1);
      const int64_t given = final ? between.x.size(1) : random.Index(between.x.size(1) + 1);
      const RestoredFrames restored = skipper.PutBack({.x = between.x.narrow(1, 0, given)}, state);
      between.x = between.x.narrow(1, given, between.x.size(1) - given);
      values.push_back(restored.x);
      gates.push_back(restored.gate);
      for (int64_t i = 0; i < restored.x.size(1); ++i) keep.push_back(!restored.dropped[0][i].item<bool>());
      if (final) break;
    }
    const torch::Tensor all = torch::cat(values, 1);
    ASSERT_EQ(all.size(1), frames);
    EXPECT_TRUE(torch::equal(torch::cat(gates, 1), gate));
    for (int64_t i = 0; i < frames; ++i)
      EXPECT_EQ(all[0][i][0].item<double>(), keep[static_cast<size_t>(i)] ? i + 1 : 0);
    EXPECT_EQ(keep, Expected(worth, guard)) << frames << " frames, guard " << guard;
  }
}

TEST(FrameSkipperTest, OptionsAreChecked) {
  const auto error = [](const SkipOptions& options) -> std::string {
    try {
      options.Validate(4);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error({}), "");
  EXPECT_EQ(error({.from_layer = 3}), "");
  EXPECT_NE(error({.from_layer = 4}).find("from_layer is 4, expected 0 (never) to 3"), std::string::npos);
  EXPECT_NE(error({.threshold = 0}).find("threshold"), std::string::npos);
  EXPECT_NE(error({.blank_threshold = 1}).find("blank_threshold"), std::string::npos);
  EXPECT_NE(error({.guard_frames = -1}).find("guard_frames"), std::string::npos);
}

}  // namespace
}  // namespace earshot
