// Frames of a stream come and go as they would in one long sequence.
#include "src/nn/frame_buffer.h"

#include <gtest/gtest.h>

#include "src/base/random.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

int64_t Bytes(const Tensor& t) { return static_cast<int64_t>(t.storage().nbytes()); }

TEST(FrameBuffer, HoldsWhatACatWould) {
  Random random(1);
  for (const bool grad : {false, true}) {
    FrameBuffer buffer;
    EXPECT_FALSE(buffer.defined());
    Tensor expected = torch::zeros({2, 0, 3});
    for (int i = 0; i < 300; ++i) {
      const Tensor fresh = torch::randn({2, static_cast<int64_t>(random.Uniform() * 20), 3});
      buffer.Append(grad ? fresh.clone().requires_grad_() : fresh);
      expected = torch::cat({expected, fresh}, 1);
      const auto less = [&] { return static_cast<int64_t>(random.Uniform() * 0.6 * expected.size(1)); };
      if (i % 3 == 0) {
        const int64_t count = less();
        buffer.DropFront(count);
        expected = expected.narrow(1, count, expected.size(1) - count);
      }
      if (i % 4 == 1) {
        const int64_t count = less();
        buffer.DropBack(count);
        expected = expected.narrow(1, 0, expected.size(1) - count);
      }
      if (i % 50 == 49) {
        const Tensor index = torch::arange(0, expected.size(1), 2);
        buffer.Select(index);
        expected = expected.index_select(1, index);
      }
      ASSERT_EQ(buffer.size(), expected.size(1));
      ASSERT_TRUE(torch::equal(buffer.Frames(), expected)) << i;
    }
  }
}

TEST(FrameBuffer, KeepsNeitherItsBatchNorALongStepAlive) {
  FrameBuffer buffer;
  buffer.Append(torch::randn({1, 1000, 4}).narrow(1, 500, 4));
  EXPECT_LE(Bytes(buffer.Frames()), 64 * 16);
  FrameBuffer recording;
  const Tensor step = torch::randn({1, 5000, 4});
  recording.Append(step);
  EXPECT_TRUE(recording.Frames().is_alias_of(step)) << "copied";
  recording.DropFront(4990);
  EXPECT_LE(Bytes(recording.Frames()), 64 * 16);
  EXPECT_TRUE(torch::equal(recording.Frames(), step.narrow(1, 4990, 10)));
}

TEST(FrameBuffer, GivesGradientsOfWhatWasSeenBefore) {
  FrameBuffer buffer;
  const Tensor first = torch::randn({1, 3, 2}).requires_grad_(), second = torch::randn({1, 3, 2}).requires_grad_();
  buffer.Append(first);
  const Tensor seen = buffer.Frames().square().sum();
  buffer.DropFront(1);
  buffer.Append(second);
  (seen + buffer.Frames().sum()).backward();
  EXPECT_TRUE(TensorsMatch(second.grad(), torch::ones({1, 3, 2}), 1e-6));
  EXPECT_TRUE(TensorsMatch(first.grad(), 2 * first.detach() + torch::tensor({0., 1., 1.}).view({1, 3, 1}), 1e-6));
}

TEST(FrameBuffer, GoesOnInAnotherMode) {
  FrameBuffer buffer;
  {
    const c10::InferenceMode inference;
    buffer.Append(torch::ones({1, 2, 2}));
  }
  buffer.Append(torch::ones({1, 2, 2}));
  EXPECT_TRUE(torch::equal(buffer.Frames(), torch::ones({1, 4, 2})));
}

}  // namespace
}  // namespace earshot
