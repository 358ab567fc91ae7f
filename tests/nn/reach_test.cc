// One encoder, many reaches: the stream of each gives what the whole recording gives under it, alone and beside others.
#include "src/nn/reach.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/nn/encoder.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

constexpr int64_t kFeatures = 8;

constexpr const char* kMemory = "+memory(slots=2,chunk=4)";

std::shared_ptr<Encoder> MakeEncoder(ConvolutionKind convolution, int skip_from = 0,
                                     const std::string& memory = kMemory, GateKind gate = GateKind::kLearned,
                                     double attention_threshold = 0) {
  EncoderOptions o;
  o.num_layers = 3;
  o.dim = 16;
  o.heads = 2;
  o.feed_forward_dim = 24;
  o.pattern = "local(chunk=8,left=24,lookahead=8)+strided(every=4,reach=32,lookahead=2)" + memory;
  o.subsampling.channels = 4;
  o.convolution = {.kind = convolution, .kernel = 7, .chunk = 8};
  o.gate = {.kind = gate, .hidden_dim = 4, .initial_bias = 0, .attention_threshold = attention_threshold};
  o.skip = {.from_layer = skip_from, .threshold = 0.45, .guard_frames = 1};
  o.intermediate_layers = {2};
  torch::manual_seed(7);
  auto encoder = std::make_shared<Encoder>(o, kFeatures);
  encoder->eval();
  return encoder;
}

TEST(Reach, KeepsAnchorsAndMemoryAndWritesTheChunk) {
  const Reach reach = MakeReach(
      Pattern::Parse(
          "local(chunk=32,left=96,lookahead=32)+strided(every=16,reach=256,lookahead=9)+memory(slots=4,chunk=16)"),
      {.chunk_frames = 4, .left_frames = 20});
  EXPECT_EQ(reach.pattern,
            Pattern::Parse("local(chunk=4,left=20)+strided(every=16,reach=256)+memory(slots=4,chunk=16)"));
  EXPECT_EQ(reach.chunk_frames, 4);
  EXPECT_EQ(MakeReach(Pattern(), {.chunk_frames = 2, .left_frames = -1}).pattern,
            Pattern::Parse("local(chunk=2,left=-1)"));
  EXPECT_THROW(MakeReach(Pattern::Parse("learned(block=8,blocks=2)"), {}), Error);
  EXPECT_THROW(MakeReach(Pattern(), {.chunk_frames = 0}), Error);
}

TEST(Reach, MustSuitTheEncoder) {
  const auto encoder = MakeEncoder(ConvolutionKind::kChunked);
  const Reach without_memory{.pattern = Pattern::Parse("local(chunk=4,left=8)")};
  EXPECT_THROW(encoder->StartStream(&without_memory), Error);
}

struct OneStream {
  Reach reach;
  Tensor features;
  EncoderState state;
  int64_t at = 0;
  bool done = false;
  std::vector<Tensor> x, gate, intermediate;
};

// All streams to their ends, some of them at a time, in steps of any size.
void RunTogether(Encoder& encoder, std::vector<OneStream>& streams, Random& random) {
  while (std::any_of(streams.begin(), streams.end(), [](const OneStream& s) { return !s.done; })) {
    std::vector<EncoderStep> steps;
    std::vector<OneStream*> stepped;
    for (OneStream& s : streams) {
      if (s.done || random.Index(3) == 0) continue;
      const int64_t size = std::min(random.Index(50), s.features.size(1) - s.at);
      s.done = s.at + size == s.features.size(1) && random.Index(2) == 0;
      steps.push_back({.features = s.features.narrow(1, s.at, size), .final = s.done, .state = &s.state});
      s.at += size;
      stepped.push_back(&s);
    }
    if (steps.empty()) continue;
    const std::vector<EncoderOutput> outputs = encoder.StreamBatch(steps);
    ASSERT_EQ(outputs.size(), steps.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      stepped[i]->x.push_back(outputs[i].x);
      if (outputs[i].gate.defined()) stepped[i]->gate.push_back(outputs[i].gate);
      for (const Tensor& x : outputs[i].intermediate) stepped[i]->intermediate.push_back(x);
    }
  }
}

OneStream Start(const Encoder& encoder, const ReachOptions& options, int64_t frames) {
  OneStream s{.reach = MakeReach(encoder.pattern(), options), .features = torch::randn({1, frames, kFeatures})};
  s.state = encoder.StartStream(&s.reach);
  return s;
}

EncoderOutput Whole(Encoder& encoder, const OneStream& s) {
  return encoder.forward(s.features, torch::full({1}, s.features.size(1), torch::kInt64), {}, {}, &s.reach);
}

TEST(Reach, StreamsTogetherGiveWhatTheWholeGives) {
  const torch::NoGradGuard no_grad;
  for (const ConvolutionKind kind :
       {ConvolutionKind::kSymmetric, ConvolutionKind::kChunked, ConvolutionKind::kCausal}) {
    for (const int skip_from : {0, 1}) {
      const auto encoder = MakeEncoder(kind, skip_from);
      Random random(3);
      std::vector<OneStream> streams;
      for (const int64_t chunk : {1, 3, 7, 16, 33}) {
        const int64_t frames = random.Index(300) + (chunk == 3 ? 0 : 40);
        streams.push_back(Start(*encoder, {.chunk_frames = chunk, .left_frames = 12}, frames));
      }
      RunTogether(*encoder, streams, random);
      for (const OneStream& s : streams) {
        const EncoderOutput whole = Whole(*encoder, s);
        EXPECT_TRUE(TensorsMatch(torch::cat(s.x, 1), whole.x, 1e-4))
            << s.reach.pattern.ToString() << ", " << s.features.size(1) << " frames, skipping from " << skip_from;
        EXPECT_TRUE(TensorsMatch(torch::cat(s.gate, 1), whole.gate, 1e-5));
      }
    }
  }
}

// Right context: the batch lays its chunks out side by side, a stream takes one after the other and keeps state.
TEST(Reach, StreamsWithRightContextGiveWhatTheWholeGives) {
  const torch::NoGradGuard no_grad;
  for (const ConvolutionKind kind :
       {ConvolutionKind::kSymmetric, ConvolutionKind::kChunked, ConvolutionKind::kCausal}) {
    for (const GateKind gate : {GateKind::kLearned, GateKind::kEnergy, GateKind::kOff}) {
      const auto encoder = MakeEncoder(kind, 0, "", gate);
      Random random(5);
      std::vector<OneStream> streams;
      for (const auto [chunk, right, frames] : std::vector<std::array<int64_t, 3>>{
               {1, 1, 90}, {2, 5, 203}, {3, 1, 0}, {4, 4, 160}, {7, 2, 3}, {16, 16, 260}, {33, 8, 301}, {4, 0, 77}}) {
        streams.push_back(Start(*encoder, {.chunk_frames = chunk, .left_frames = 12, .right_frames = right}, frames));
      }
      RunTogether(*encoder, streams, random);
      for (const OneStream& s : streams) {
        const EncoderOutput whole = Whole(*encoder, s);
        EXPECT_TRUE(TensorsMatch(torch::cat(s.x, 1), whole.x, 1e-4))
            << s.reach.pattern.ToString() << ", " << s.features.size(1) << " frames";
        if (s.features.size(1) == 0) continue;
        EXPECT_TRUE(TensorsMatch(torch::cat(s.intermediate, 1), whole.intermediate.at(0), 1e-4));
        if (gate != GateKind::kOff) {
          EXPECT_TRUE(TensorsMatch(torch::cat(s.gate, 1), whole.gate, 1e-5));
        }
      }
    }
  }
}

TEST(Reach, StreamsHearNothingOfWhatIsTurnedDown) {
  const torch::NoGradGuard no_grad;
  const auto all = MakeEncoder(ConvolutionKind::kSymmetric, 0, "", GateKind::kLearned);
  const auto encoder = MakeEncoder(ConvolutionKind::kSymmetric, 0, "", GateKind::kLearned, 0.5);
  Random random(6);
  std::vector<OneStream> streams;
  for (const auto [chunk, right] : std::vector<std::array<int64_t, 2>>{{1, 7}, {2, 5}, {4, 4}, {33, 8}, {4, 0}}) {
    streams.push_back(Start(*encoder, {.chunk_frames = chunk, .left_frames = 12, .right_frames = right}, 260));
  }
  RunTogether(*encoder, streams, random);
  for (const OneStream& s : streams) {
    const Tensor whole = Whole(*encoder, s).x;
    EXPECT_TRUE(TensorsMatch(torch::cat(s.x, 1), whole, 1e-4)) << s.reach.pattern.ToString();
    EXPECT_GT((whole - Whole(*all, s).x).abs().max().item<double>(), 1e-3);
  }
}

// What lies behind the end of an utterance is not heard, and training computes what inference computes.
TEST(Reach, RightContextIsThatOfEachUtterance) {
  const auto encoder = MakeEncoder(ConvolutionKind::kSymmetric, 0, "");
  const Reach reach = MakeReach(encoder->pattern(), {.chunk_frames = 4, .left_frames = 12, .right_frames = 3});
  const Tensor lens = torch::tensor({160, 43, 98}, torch::kInt64);
  Tensor features = torch::randn({3, 160, kFeatures});
  for (int64_t n = 0; n < 3; ++n) features[n].slice(0, lens[n].item<int64_t>()).zero_();
  const Tensor trained = encoder->forward(features, lens, {}, {}, &reach).x;
  const torch::NoGradGuard no_grad;
  const Tensor inferred = encoder->forward(features, lens, {}, {}, &reach).x;
  for (int64_t n = 0; n < 3; ++n) {
    const int64_t frames = (lens[n].item<int64_t>() + 3) / 4;
    const OneStream alone{.reach = reach, .features = features.narrow(0, n, 1).slice(1, 0, lens[n].item<int64_t>())};
    const Tensor whole = Whole(*encoder, alone).x;
    EXPECT_TRUE(TensorsMatch(inferred.narrow(0, n, 1).slice(1, 0, frames), whole, 1e-4));
    EXPECT_TRUE(TensorsMatch(trained.narrow(0, n, 1).slice(1, 0, frames), whole, 1e-4));
  }
}

TEST(Reach, RightContextIsHeardAndNoMore) {
  const torch::NoGradGuard no_grad;
  const auto encoder = MakeEncoder(ConvolutionKind::kSymmetric, 0, "");
  const Reach reach = MakeReach(encoder->pattern(), {.chunk_frames = 4, .left_frames = 8, .right_frames = 2});
  const Tensor features = torch::randn({1, 160, kFeatures}), lens = torch::full({1}, 160, torch::kInt64);
  Tensor changed = features.clone();
  changed.narrow(1, 84, 76) += 1;  // encoder frame 20 sees the features 80 to 86
  const Tensor a = encoder->forward(features, lens, {}, {}, &reach).x,
               b = encoder->forward(changed, lens, {}, {}, &reach).x;
  EXPECT_TRUE(TensorsMatch(a.narrow(1, 0, 16), b.narrow(1, 0, 16), 1e-6));
  EXPECT_GT((a - b).abs().narrow(1, 16, 1).max().item<double>(), 1e-3);
}

// Chunks with their right context overlap, wherever they lie: also where positions pass a thousand.
TEST(Reach, RightContextOfLongRecordings) {
  const torch::NoGradGuard no_grad;
  const auto encoder = MakeEncoder(ConvolutionKind::kSymmetric, 0, "");
  Random random(9);
  std::vector<OneStream> streams;
  for (const auto [chunk, right] : std::vector<std::array<int64_t, 2>>{{1, 7}, {20, 12}, {13, 13}}) {
    streams.push_back(Start(*encoder, {.chunk_frames = chunk, .left_frames = 12, .right_frames = right}, 4 * 2070));
  }
  for (OneStream& s : streams) {
    const EncoderOutput streamed = encoder->Stream(s.features, true, s.state);
    EXPECT_TRUE(TensorsMatch(streamed.x, Whole(*encoder, s).x, 1e-4)) << s.reach.pattern.ToString();
  }
}

TEST(Reach, RightContextIsNotForMemoryAndSkipping) {
  EXPECT_THROW(MakeReach(Pattern::Parse("local(chunk=4,left=8)+memory(slots=2,chunk=4)"), {.right_frames = 1}), Error);
  const auto skipping = MakeEncoder(ConvolutionKind::kSymmetric, 1, "");
  const Reach reach = MakeReach(skipping->pattern(), {.right_frames = 1});
  EXPECT_THROW(skipping->StartStream(&reach), Error);
}

// No frame sees what lies behind its chunk.
TEST(Reach, NothingBehindTheChunkCounts) {
  const torch::NoGradGuard no_grad;
  const auto encoder = MakeEncoder(ConvolutionKind::kSymmetric);
  const Reach reach = MakeReach(encoder->pattern(), {.chunk_frames = 4, .left_frames = 8});
  const Tensor features = torch::randn({1, 160, kFeatures});
  Tensor changed = features.clone();
  changed.narrow(1, 84, 76) += 1;  // encoder frame 20 sees the features 80 to 86
  const Tensor lens = torch::full({1}, 160, torch::kInt64);
  const Tensor a = encoder->forward(features, lens, {}, {}, &reach).x,
               b = encoder->forward(changed, lens, {}, {}, &reach).x;
  EXPECT_TRUE(TensorsMatch(a.narrow(1, 0, 20), b.narrow(1, 0, 20), 1e-6));
  EXPECT_GT((a - b).abs().narrow(1, 20, 1).max().item<double>(), 1e-3);
}

}  // namespace
}  // namespace earshot
