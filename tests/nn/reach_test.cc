// One encoder, many reaches: the stream of each gives what the whole recording gives under it, alone and beside others.
#include "src/nn/reach.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/nn/encoder.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

constexpr int64_t kFeatures = 8;

std::shared_ptr<Encoder> MakeEncoder(ConvolutionKind convolution, int skip_from = 0) {
  EncoderOptions o;
  o.num_layers = 3;
  o.dim = 16;
  o.heads = 2;
  o.feed_forward_dim = 24;
  o.pattern = "local(chunk=8,left=24,lookahead=8)+strided(every=4,reach=32,lookahead=2)+memory(slots=2,chunk=4)";
  o.subsampling.channels = 4;
  o.convolution = {.kind = convolution, .kernel = 7, .chunk = 8};
  o.gate = {.kind = GateKind::kLearned, .hidden_dim = 4, .initial_bias = 0};
  o.skip = {.from_layer = skip_from, .threshold = 0.45, .guard_frames = 1};
  torch::manual_seed(7);
  auto encoder = std::make_shared<Encoder>(o, kFeatures);
  encoder->eval();
  return encoder;
}

TEST(Reach, KeepsAnchorsAndMemoryAndWritesTheChunk) {
  const Reach reach = MakeReach(
      Pattern::Parse(
          "local(chunk=32,left=96,lookahead=32)+strided(every=16,reach=256,lookahead=9)+memory(slots=4,chunk=16)"),
      {.chunk_frames = 4, .left_frames = 20, .lookahead_frames = 1});
  EXPECT_EQ(reach.pattern,
            Pattern::Parse("local(chunk=4,left=20,lookahead=1)+strided(every=16,reach=256)+memory(slots=4,chunk=16)"));
  EXPECT_EQ(reach.convolution_chunk, 4);
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

TEST(Reach, StreamsTogetherGiveWhatTheWholeGives) {
  const torch::NoGradGuard no_grad;
  for (const ConvolutionKind kind :
       {ConvolutionKind::kSymmetric, ConvolutionKind::kChunked, ConvolutionKind::kCausal}) {
    for (const int skip_from : {0, 1}) {
      const auto encoder = MakeEncoder(kind, skip_from);
      Random random(3);
      struct OneStream {
        Reach reach;
        Tensor features;
        EncoderState state;
        int64_t at = 0;
        bool done = false;
        std::vector<Tensor> x, gate;
      };
      std::vector<OneStream> streams;
      for (const int64_t chunk : {1, 3, 7, 16, 33}) {
        OneStream s{.reach = MakeReach(encoder->pattern(), {.chunk_frames = chunk, .left_frames = 12})};
        s.features = torch::randn({1, random.Index(300) + (chunk == 3 ? 0 : 40), kFeatures});
        s.state = encoder->StartStream(&s.reach);
        streams.push_back(std::move(s));
      }
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
        const std::vector<EncoderOutput> outputs = encoder->StreamBatch(steps);
        ASSERT_EQ(outputs.size(), steps.size());
        for (size_t i = 0; i < outputs.size(); ++i) {
          stepped[i]->x.push_back(outputs[i].x);
          stepped[i]->gate.push_back(outputs[i].gate);
        }
      }
      for (const OneStream& s : streams) {
        const EncoderOutput whole =
            encoder->forward(s.features, torch::full({1}, s.features.size(1), torch::kInt64), {}, {}, &s.reach);
        EXPECT_TRUE(TensorsMatch(torch::cat(s.x, 1), whole.x, 1e-4))
            << s.reach.pattern.ToString() << ", " << s.features.size(1) << " frames, skipping from " << skip_from;
        EXPECT_TRUE(TensorsMatch(torch::cat(s.gate, 1), whole.gate, 1e-5));
      }
    }
  }
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
