#include "src/stream/acoustic_stream.h"

#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/random.h"
#include "tests/stream/tiny_model.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;
using torch::Tensor;

constexpr int kSampleRate = 16000;
constexpr WindowOptions kSmallWindows = {.window_s = 3.2, .overlap_s = 1.28};

Tensor Offline(const AsrModel& model, std::span<const float> features) {
  const c10::InferenceMode inference;
  const int64_t dim = model.extractor()->dim(), frames = static_cast<int64_t>(features.size()) / dim;
  const Tensor batch = at::from_blob(const_cast<float*>(features.data()), {1, frames, dim}, at::kFloat);
  return model.network().forward(batch, at::full({1}, frames, at::kLong)).log_probs[0];  // (T', V)
}

// Features through a stream, `step` frames at a time; 0: a random number each time.
AcousticFrames Stream(AcousticStream& stream, const AsrModel& model, std::span<const float> features, int64_t step) {
  Random random(3);
  const auto dim = static_cast<size_t>(model.extractor()->dim());
  std::vector<Tensor> log_probs, gates;
  const auto keep = [&](const AcousticFrames& frames) {
    if (frames.log_probs.defined()) log_probs.push_back(frames.log_probs);
    if (frames.gate.defined()) gates.push_back(frames.gate);
  };
  while (!features.empty()) {
    const auto frames = static_cast<size_t>(step > 0 ? step : random.Index(200));
    const size_t take = std::min(features.size(), frames * dim);
    keep(stream.Accept(features.first(take), false));
    features = features.subspan(take);
  }
  keep(stream.Accept({}, true));
  return {.log_probs = log_probs.empty() ? Tensor() : at::cat(log_probs),
          .gate = gates.empty() ? Tensor() : at::cat(gates)};
}

void ExpectNear(const Tensor& got, const Tensor& expected, double tolerance) {
  ASSERT_TRUE(got.defined());
  ASSERT_EQ(got.sizes(), expected.sizes());
  const Tensor difference = (got - expected).abs();
  EXPECT_LE(difference.max().item<double>(), tolerance)
      << "largest absolute difference " << difference.max().item<double>() << ", relative "
      << (difference / expected.abs().clamp_min(1e-6)).max().item<double>();
}

TEST(AcousticStream, OfABoundedPatternIsOfflineWhateverTheSteps) {
  const auto model = TinyModel();
  const std::vector<float> features = model->Features(Babble(5.13, kSampleRate));
  const Tensor expected = Offline(*model, features);
  for (const int64_t step : {5, 64, 100000, 0}) {
    SCOPED_TRACE(step);
    const auto stream = MakeAcousticStream(model, kSmallWindows);
    const AcousticFrames frames = Stream(*stream, *model, features, step);
    ExpectNear(frames.log_probs, expected, 1e-4);
    EXPECT_EQ(frames.gate.size(0), expected.size(0));
  }
}

TEST(AcousticStream, OfFullAttentionIsOfflineWithinOneWindow) {
  const auto model = TinyModel({.pattern = "full", .convolution = ConvolutionKind::kSymmetric});
  const std::vector<float> features = model->Features(Babble(3.19, kSampleRate));
  const auto stream = MakeAcousticStream(model, kSmallWindows);
  ExpectNear(Stream(*stream, *model, features, 0).log_probs, Offline(*model, features), 1e-4);
}

// Frames further from a seam than the network sees must not know of it.
TEST(AcousticStream, WindowsAreOfflineWhereTheOverlapCoversTheContext) {
  // Two layers of 4 + 4 (chunk and left) and 2 + 3 frames (kernel): below the 16 that are dropped.
  const auto model = TinyModel({.pattern = "local(chunk=4,left=4)"});
  const std::vector<float> features = model->Features(Babble(11.7, kSampleRate));
  const auto stream = MakeWindowedStream(model, kSmallWindows);
  const AcousticFrames frames = Stream(*stream, *model, features, 0);
  ExpectNear(frames.log_probs, Offline(*model, features), 1e-4);
}

TEST(AcousticStream, WindowsGiveEveryFrameOnceWhereverTheRecordingEnds) {
  const auto model = TinyModel({.pattern = "full", .gate = GateKind::kOff, .num_layers = 1});
  // A window of 320 frames that moves by 192.
  for (const int64_t num_frames : {1, 2, 5, 319, 320, 321, 322, 383, 384, 385, 511, 512, 513, 705}) {
    const std::vector<float> features(static_cast<size_t>(num_frames * model->extractor()->dim()), 0.1f);
    const auto stream = MakeWindowedStream(model, kSmallWindows);
    const AcousticFrames frames = Stream(*stream, *model, features, 50);
    ASSERT_TRUE(frames.log_probs.defined()) << num_frames;
    EXPECT_EQ(frames.log_probs.size(0), (num_frames + 3) / 4) << num_frames;
    EXPECT_FALSE(frames.gate.defined());
  }
}

TEST(AcousticStream, NothingGivesNothing) {
  for (const char* pattern : {"full", "local(chunk=4,left=8)"}) {
    const auto stream = MakeAcousticStream(TinyModel({.pattern = pattern}), {});
    EXPECT_FALSE(stream->Accept({}, false).log_probs.defined());
    EXPECT_FALSE(stream->Accept({}, true).log_probs.defined());
  }
}

TEST(WindowOptions, NamesTheKeyThatIsWrong) {
  const auto message = [](const WindowOptions& options) -> std::string {
    try {
      options.Validate();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message({}), "");
  EXPECT_THAT(message({.overlap_s = 0}), HasSubstr("window.overlap_s is 0"));
  EXPECT_THAT(message({.window_s = 7, .overlap_s = 4}), HasSubstr("window.window_s is 7"));
}

}  // namespace
}  // namespace earshot
