#include "src/nn/encoder.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/nn/dropout.h"
#include "tests/support/tensor_match.h"
#include "tests/support/threads.h"

namespace earshot {
namespace {

using torch::Tensor;

constexpr int64_t kFeatures = 8;

EncoderOptions Tiny(const std::string& pattern, GateKind gate = GateKind::kLearned,
                    ConvolutionKind convolution = ConvolutionKind::kChunked) {
  EncoderOptions o;
  o.num_layers = 2;
  o.dim = 16;
  o.heads = 2;
  o.feed_forward_dim = 24;
  o.pattern = pattern;
  o.subsampling.channels = 4;
  o.convolution = {.kind = convolution, .kernel = 5, .chunk = 4};
  // Half open, so that it matters.
  o.gate = {.kind = gate, .hidden_dim = 4, .initial_bias = 0, .energy_threshold = 0, .energy_slope = 2};
  return o;
}

std::shared_ptr<Encoder> MakeEncoder(const EncoderOptions& options) {
  torch::manual_seed(7);
  auto encoder = std::make_shared<Encoder>(options, kFeatures);
  encoder->eval();
  return encoder;
}

struct Streamed {
  Tensor x, gate;
  std::vector<Tensor> intermediate;
};

// The whole of features (1, T, C) in random pieces of at most `most` frames, some of them empty.
Streamed StreamInPieces(Encoder& encoder, const Tensor& features, int64_t most, Random& random,
                        const Encoder::Conditioning& conditioning = {}) {
  EncoderState state = encoder.StartStream();
  std::vector<Tensor> x, gate;
  std::vector<std::vector<Tensor>> intermediate(encoder.options().intermediate_layers.size());
  const auto take = [&](const EncoderOutput& out) {
    EXPECT_EQ(out.lens[0].item<int64_t>(), out.x.size(1));
    x.push_back(out.x);
    if (out.gate.defined()) gate.push_back(out.gate);
    for (size_t i = 0; i < out.intermediate.size(); ++i) intermediate[i].push_back(out.intermediate[i]);
  };
  for (int64_t begin = 0; begin < features.size(1);) {
    const int64_t size = std::min(random.Index(most + 1), features.size(1) - begin);
    take(encoder.Stream(features.narrow(1, begin, size), false, state, conditioning));
    begin += size;
  }
  take(encoder.Stream({}, true, state, conditioning));
  Streamed whole{.x = torch::cat(x, 1)};
  if (!gate.empty()) whole.gate = torch::cat(gate, 1);
  for (const auto& parts : intermediate) whole.intermediate.push_back(torch::cat(parts, 1));
  return whole;
}

Tensor Lens(const std::vector<int64_t>& lens) { return torch::tensor(lens, torch::kInt64); }

// Loud and quiet stretches, (1, frames, C).
Tensor Pauses(int64_t frames, Random& random) {
  Tensor features = torch::randn({1, frames, kFeatures}) * 0.3;
  for (int64_t begin = 0; begin < frames;) {
    const int64_t size = std::min<int64_t>(frames - begin, 4 + random.Index(80));
    features.narrow(1, begin, size).add_(random.Chance(0.5) ? 1.5 : -1.5);
    begin += size;
  }
  return features;
}

class EncoderTest : public testing::TestWithParam<const char*> {};

TEST_P(EncoderTest, StreamsAsTheWhole) {
  const torch::NoGradGuard no_grad;
  Random random(1);
  for (const GateKind gate : {GateKind::kOff, GateKind::kEnergy, GateKind::kLearned}) {
    for (const ConvolutionKind kind :
         {ConvolutionKind::kChunked, ConvolutionKind::kCausal, ConvolutionKind::kSymmetric}) {
      const auto encoder = MakeEncoder(Tiny(GetParam(), gate, kind));
      for (const int64_t frames : {1, 4, 9, 122}) {
        const Tensor features = torch::randn({1, frames, kFeatures});
        const EncoderOutput whole = encoder->forward(features, Lens({frames}));
        const Streamed streamed = StreamInPieces(*encoder, features, frames < 10 ? 2 : 40, random);
        const std::string what =
            fmt::format("gate {}, convolution {}, {} frames", static_cast<int>(gate), static_cast<int>(kind), frames);
        EXPECT_TRUE(TensorsMatch(streamed.x, whole.x, 1e-4)) << what;
        EXPECT_TRUE(TensorsMatch(streamed.gate, whole.gate, 1e-5)) << what;
      }
    }
  }
}

TEST_P(EncoderTest, GroupedHeadsStreamAsTheWhole) {
  Random random(5);
  EncoderOptions options = Tiny(GetParam());
  options.dim = 24, options.heads = 6, options.kv_heads = 2, options.dropout = 0;
  const auto encoder = MakeEncoder(options);
  const Tensor features = torch::randn({1, 122, kFeatures});
  const Tensor trained = encoder->forward(features, Lens({122})).x;
  const torch::NoGradGuard no_grad;
  const EncoderOutput whole = encoder->forward(features, Lens({122}));
  EXPECT_TRUE(TensorsMatch(trained, whole.x, 1e-4));
  EXPECT_TRUE(TensorsMatch(StreamInPieces(*encoder, features, 40, random).x, whole.x, 1e-4));
  EXPECT_EQ(encoder->named_parameters()["block_1.attention.qkv.weight"].size(0), 24 + 2 * 2 * 4);
}

// What the gate turns down is neither attended to nor attends.
TEST_P(EncoderTest, StreamsAsTheWholeWithoutWhatIsTurnedDown) {
  const torch::NoGradGuard no_grad;
  Random random(8);
  for (const GateKind gate : {GateKind::kEnergy, GateKind::kLearned}) {
    EncoderOptions options = Tiny(GetParam(), gate);
    options.dropout = 0;
    const auto plain = MakeEncoder(options);
    options.gate.attention_threshold = 0.5;
    const auto encoder = MakeEncoder(options);
    const Tensor features = Pauses(330, random);
    const Tensor of_all = plain->forward(features, Lens({330})).x;
    const EncoderOutput whole = encoder->forward(features, Lens({330}));
    EXPECT_GT((whole.x - of_all).abs().max().item<double>(), 1e-3);
    const Streamed streamed = StreamInPieces(*encoder, features, 40, random);
    EXPECT_TRUE(TensorsMatch(streamed.x, whole.x, 1e-4)) << "gate " << static_cast<int>(gate);
    // Training sees every frame.
    plain->train(), encoder->train();
    EXPECT_TRUE(TensorsMatch(encoder->forward(features, Lens({330})).x, plain->forward(features, Lens({330})).x, 1e-6));
  }
}

TEST_P(EncoderTest, BatchAndPaddingChangeNothing) {
  const torch::NoGradGuard no_grad;
  for (const GateKind gate : {GateKind::kEnergy, GateKind::kLearned}) {
    const auto encoder = MakeEncoder(Tiny(GetParam(), gate));
    const std::vector<int64_t> lens = {1, 90, 7, 53};
    Tensor batch = torch::zeros({4, 97, kFeatures});
    for (size_t i = 0; i < lens.size(); ++i) batch[static_cast<int64_t>(i)].narrow(0, 0, lens[i]).normal_();
    const EncoderOutput all = encoder->forward(batch, Lens(lens));
    for (size_t i = 0; i < lens.size(); ++i) {
      const auto n = static_cast<int64_t>(i);
      const EncoderOutput one = encoder->forward(batch.narrow(0, n, 1).narrow(1, 0, lens[i]), Lens({lens[i]}));
      const int64_t frames = one.x.size(1);
      EXPECT_EQ(all.lens[n].item<int64_t>(), frames);
      EXPECT_EQ(one.lens[0].item<int64_t>(), frames);
      EXPECT_TRUE(TensorsMatch(all.x.narrow(0, n, 1).narrow(1, 0, frames), one.x, 1e-5)) << lens[i] << " frames";
      EXPECT_TRUE(TensorsMatch(all.gate.narrow(0, n, 1).narrow(1, 0, frames), one.gate, 1e-5)) << lens[i] << " frames";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Patterns, EncoderTest,
    testing::Values("local(chunk=4,left=8)", "local(chunk=4,left=8,lookahead=2)", "local(chunk=4,left=-1)",
                    "sliding(left=5,right=0)", "sliding(left=5,right=2)",
                    "sliding(left=2,right=0)+strided(every=4,reach=16)", "strided(every=3,reach=20,lookahead=4)",
                    "blockwise(block=4,offsets=-2;1)", "full(causal=true)",
                    "local(chunk=4,left=4)+memory(slots=2,chunk=4)",
                    "sliding(left=3,right=1)+strided(every=4,reach=16)+memory(slots=3,chunk=6,lag=2)",
                    "learned(block=4,blocks=2,reach=5)", "learned(block=3,blocks=2,reach=-1,lookahead=1)",
                    "hierarchical(chunk=4,left=3,lookahead=1,pool=2,levels=2)",
                    "hierarchical(chunk=2,left=2,pool=2,levels=2,future=true)",
                    "local(chunk=4,left=4)+learned(block=6,blocks=1,reach=4)+memory(slots=2,chunk=4)",
                    "sliding(left=3,right=1)+hierarchical(chunk=4,left=2,pool=3,levels=1)"));

EncoderOptions Skipping(const std::string& pattern) {
  EncoderOptions options = Tiny(pattern, GateKind::kEnergy);
  options.num_layers = 4;
  options.intermediate_layers = {2};
  options.skip = {.from_layer = 2, .threshold = 0.3, .blank_threshold = 0.9, .guard_frames = 2};
  return options;
}

TEST_P(EncoderTest, SkippedFramesStreamAsTheWholeAndInAnyBatch) {
  const torch::NoGradGuard no_grad;
  Random random(2);
  const auto encoder = MakeEncoder(Skipping(GetParam()));
  const Encoder::BlankProbability blank = [](const Tensor& x) { return torch::sigmoid(4 * x.select(-1, 0) + 5); };
  const std::vector<int64_t> lens = {330, 1, 157};
  Tensor batch = torch::zeros({3, 330, kFeatures});
  for (size_t i = 0; i < lens.size(); ++i)
    batch[static_cast<int64_t>(i)].narrow(0, 0, lens[i]).copy_(Pauses(lens[i], random)[0]);
  const EncoderOutput all = encoder->forward(batch, Lens(lens), {}, blank);
  EXPECT_GT(all.dropped.sum().item<int64_t>(), 3);
  EXPECT_LT(all.dropped.to(torch::kFloat).mean().item<double>(), 0.8);
  for (size_t i = 0; i < lens.size(); ++i) {
    const auto n = static_cast<int64_t>(i);
    const Tensor features = batch.narrow(0, n, 1).narrow(1, 0, lens[i]);
    const EncoderOutput one = encoder->forward(features, Lens({lens[i]}), {}, blank);
    const int64_t frames = one.x.size(1);
    EXPECT_TRUE(TensorsMatch(all.x.narrow(0, n, 1).narrow(1, 0, frames), one.x, 1e-5));
    EXPECT_TRUE(torch::equal(all.dropped.narrow(0, n, 1).narrow(1, 0, frames), one.dropped));
    for (const int64_t most : {7, 60}) {
      EncoderState state = encoder->StartStream();
      std::vector<Tensor> x, dropped, gate;
      for (int64_t begin = 0; begin <= lens[i];) {
        const int64_t size = std::min(random.Index(most + 1), lens[i] - begin);
        const bool final = begin + size == lens[i];
        const EncoderOutput part = encoder->Stream(features.narrow(1, begin, size), final, state, {}, blank);
        x.push_back(part.x), dropped.push_back(part.dropped), gate.push_back(part.gate);
        begin += size;
        if (final) break;
      }
      EXPECT_TRUE(TensorsMatch(torch::cat(x, 1), one.x, 1e-4)) << lens[i] << " in pieces of up to " << most;
      EXPECT_TRUE(torch::equal(torch::cat(dropped, 1), one.dropped));
      EXPECT_TRUE(TensorsMatch(torch::cat(gate, 1), one.gate, 1e-5));
    }
  }
  // With nothing to drop it is the encoder without skipping.
  EncoderOptions plain = Skipping(GetParam());
  plain.skip = {};
  const Tensor loud = torch::randn({1, 200, kFeatures}) * 0.1 + 2;
  const EncoderOutput kept = encoder->forward(loud, Lens({200}));
  EXPECT_EQ(kept.dropped.sum().item<int64_t>(), 0);
  EXPECT_TRUE(TensorsMatch(kept.x, MakeEncoder(plain)->forward(loud, Lens({200})).x, 1e-4));
}

// Steps of many frames are cut into pieces, which several threads take through the layers.
TEST_P(EncoderTest, LongStepsAreTheWholeOnAnyNumberOfThreads) {
  const torch::NoGradGuard no_grad;
  Random random(4);
  EncoderOptions plain = Tiny(GetParam());
  plain.num_layers = 12;
  plain.intermediate_layers = {1};
  EncoderOptions skipping = Skipping(GetParam());
  skipping.num_layers = 12;
  for (const EncoderOptions& options : {plain, skipping}) {
    const auto encoder = MakeEncoder(options);
    const Tensor features = Pauses(1900, random);
    const EncoderOutput whole = encoder->forward(features, Lens({1900}));
    for (const int count : {1, 2, 3, 7}) {
      const Threads threads(count);
      for (const int64_t most : {1900, 1300}) {
        const Streamed streamed = StreamInPieces(*encoder, features, most, random);
        EXPECT_TRUE(TensorsMatch(streamed.x, whole.x, 1e-4)) << count << " threads, steps of up to " << most;
        EXPECT_TRUE(TensorsMatch(streamed.gate, whole.gate, 1e-5));
        if (!whole.intermediate.empty()) {
          EXPECT_TRUE(TensorsMatch(streamed.intermediate[0], whole.intermediate[0], 1e-4));
        }
      }
    }
  }
}

// Chunks of attention and of the convolution end together whatever has left, so blocks add nothing to the delay.
TEST(EncoderStreamTest, SkippingDelaysByOneChunkInAllBlocks) {
  const torch::NoGradGuard no_grad;
  Random random(6);
  EncoderOptions options = Skipping("local(chunk=4,left=8)");
  options.num_layers = 12;
  options.convolution.kind = ConvolutionKind::kChunked;
  const auto encoder = MakeEncoder(options);
  const int64_t guard = options.skip.guard_frames, chunk = options.convolution.chunk;
  EncoderState state = encoder->StartStream();
  int64_t given = 0, dropped = 0;
  for (int step = 0; step < 40; ++step) {
    const EncoderOutput out = encoder->Stream(Pauses(40, random), false, state);
    given += out.x.size(1);
    dropped += out.dropped.sum().item<int64_t>();
    EXPECT_GT(given, state.frames - guard - 2 * chunk) << "of " << state.frames << " frames, " << dropped << " dropped";
  }
  EXPECT_GT(dropped, 20);
}

// Nothing can be given before the end, and then all of it.
TEST(EncoderStreamTest, FullAttentionWaitsForTheEnd) {
  const torch::NoGradGuard no_grad;
  const auto encoder = MakeEncoder(Tiny("full"));
  const Tensor features = torch::randn({1, 60, kFeatures});
  EncoderState state = encoder->StartStream();
  EXPECT_EQ(encoder->Stream(features, false, state).x.size(1), 0);
  EXPECT_TRUE(TensorsMatch(encoder->Stream({}, true, state).x, encoder->forward(features, Lens({60})).x, 1e-4));
}

TEST(EncoderStreamTest, StreamsOfNothing) {
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(MakeEncoder(Tiny("local"))->StreamBatch({}).empty());
  for (const char* pattern : {"local(chunk=4,left=8)+memory(slots=2,chunk=4)", "full(causal=true)"}) {
    for (const GateKind gate : {GateKind::kOff, GateKind::kEnergy, GateKind::kLearned}) {
      const auto encoder = MakeEncoder(Tiny(pattern, gate));
      const std::vector<int64_t> nothing = {1, 0, 16};
      EncoderState state = encoder->StartStream();
      EXPECT_EQ(encoder->Stream({}, true, state).x.sizes().vec(), nothing);
      EncoderState empty = encoder->StartStream();
      EXPECT_EQ(encoder->Stream(torch::zeros({1, 0, kFeatures}), false, empty).x.sizes().vec(), nothing);
      EXPECT_EQ(encoder->Stream({}, true, empty).x.sizes().vec(), nothing);
      EXPECT_EQ(encoder->forward(torch::zeros({1, 0, kFeatures}), Lens({0})).x.sizes().vec(), nothing);
    }
  }
  const auto encoder = MakeEncoder(Tiny("local"));
  EncoderState state = encoder->StartStream();
  EXPECT_THROW(encoder->Stream({}, false, state), LogicError);
  EncoderState other;
  EXPECT_THROW(encoder->Stream(torch::zeros({1, 5, kFeatures}), false, other), LogicError);
}

TEST(EncoderStreamTest, IntermediateOutputsAndConditioning) {
  const torch::NoGradGuard no_grad;
  EncoderOptions options = Tiny("local(chunk=4,left=8,lookahead=1)+strided(every=4,reach=16)");
  options.num_layers = 3;
  options.intermediate_layers = {1, 2};
  options.input_scale = 4;
  options.bias = false;
  const auto encoder = MakeEncoder(options);
  const Tensor matrix = torch::randn({16, 16});
  const Encoder::Conditioning conditioning = [&](const Tensor& x) { return torch::tanh(torch::matmul(x, matrix)); };
  const Tensor features = torch::randn({1, 131, kFeatures});
  const EncoderOutput whole = encoder->forward(features, Lens({131}), conditioning);
  ASSERT_EQ(whole.intermediate.size(), 2);
  EXPECT_FALSE(TensorsMatch(encoder->forward(features, Lens({131})).x, whole.x, 1e-3));
  Random random(3);
  const Streamed streamed = StreamInPieces(*encoder, features, 30, random, conditioning);
  EXPECT_TRUE(TensorsMatch(streamed.x, whole.x, 1e-4));
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(TensorsMatch(streamed.intermediate[i], whole.intermediate[i], 1e-4));
}

void Count(const Tensor& t, int64_t& values) {
  if (t.defined()) values += t.numel();
}

// Everything that a stream keeps, in numbers.
int64_t StateSize(const EncoderState& state) {
  int64_t values = 0;
  Count(state.subsampling.frames, values);
  for (const BlockState& b : state.blocks) {
    const SelfAttentionState& a = b.attention;
    for (const Tensor& t :
         {a.k.Frames(), a.v.Frames(), a.log_gate.Frames(), a.pending_q, a.open_x, a.open_weight, a.means.mean,
          a.pending_x, a.pending_log_gate, a.memory, b.convolution.inputs, b.before_attention.x,
          b.before_attention.gate, b.before_convolution.x, b.before_convolution.gate})
      Count(t, values);
    for (const Cells& c : a.cells.levels) {
      for (const Tensor& t : {c.k, c.v, c.weight}) Count(t, values);
    }
    values += static_cast<int64_t>(a.key_positions.size());
  }
  return values;
}

TEST(EncoderStreamTest, StateOfABoundedPatternStaysAsItIs) {
  const torch::NoGradGuard no_grad;
  const auto size_after = [](Encoder& encoder, const std::vector<int64_t>& frames) {
    EncoderState state = encoder.StartStream();
    std::vector<int64_t> sizes;
    int64_t done = 0;
    for (const int64_t end : frames) {
      for (; done < end; done += 400) encoder.Stream(torch::randn({1, 400, kFeatures}), false, state);
      sizes.push_back(StateSize(state));
    }
    return sizes;
  };
  for (const char* pattern :
       {"local(chunk=4,left=8,lookahead=1)+strided(every=4,reach=40)+memory(slots=2,chunk=4)",
        "sliding(left=7,right=2)", "blockwise(block=5,offsets=-3;1)", "learned(block=5,blocks=2,reach=6,lookahead=1)",
        "hierarchical(chunk=4,left=5,pool=2,levels=2,future=true)"}) {
    const auto sizes = size_after(*MakeEncoder(Tiny(pattern)), {2000, 20000});
    EXPECT_EQ(sizes[0], sizes[1]) << pattern;
  }
  const auto sizes = size_after(*MakeEncoder(Tiny("full(causal=true)")), {800, 1600});
  EXPECT_GT(sizes[1], sizes[0]);
}

TEST(EncoderTrainingTest, EveryParameterHasAFiniteGradient) {
  EncoderOptions options = Tiny(
      "strided(every=8,reach=32)+hierarchical(chunk=2,left=2,pool=2,levels=1)+"
      "learned(block=4,blocks=1)+memory(slots=2,chunk=4)");
  const auto encoder = MakeEncoder(options);
  encoder->train();
  SeedDropout(3);
  const EncoderOutput out = encoder->forward(torch::randn({2, 80, kFeatures}), Lens({80, 41}));
  (out.x * torch::randn_like(out.x)).sum().backward();
  for (const auto& p : encoder->named_parameters()) {
    ASSERT_TRUE(p.value().grad().defined()) << p.key();
    EXPECT_TRUE(p.value().grad().isfinite().all().item<bool>()) << p.key();
    EXPECT_GT(p.value().grad().abs().max().item<double>(), 0) << p.key();
  }
}

TEST(EncoderTrainingTest, DrawsFollowTheSeedAlone) {
  EncoderOptions options = Tiny("local");
  options.layer_drop = 0.5;
  const auto encoder = MakeEncoder(options);
  encoder->train();
  const Tensor features = torch::randn({1, 50, kFeatures});
  const auto run = [&](uint64_t seed) {
    SeedDropout(seed);
    return encoder->forward(features, Lens({50})).x.detach();
  };
  const Tensor first = run(1);
  EXPECT_FALSE(torch::equal(run(2), first));
  torch::manual_seed(99);
  EXPECT_TRUE(torch::equal(run(1), first));
}

TEST(EncoderMapTest, AttentionMapsAreDistributionsWithinThePattern) {
  const torch::NoGradGuard no_grad;
  const auto encoder = MakeEncoder(Tiny("sliding(left=3,right=1)"));
  const Tensor map = encoder->AttentionMap(torch::randn({1, 60, kFeatures}), Lens({60}), 2);
  ASSERT_EQ(map.sizes().vec(), (std::vector<int64_t>{1, 15, 15}));
  EXPECT_TRUE(TensorsMatch(map.sum(2), torch::ones({1, 15}), 1e-5));
  for (int64_t q = 0; q < 15; ++q) {
    for (int64_t k = 0; k < 15; ++k) EXPECT_EQ(map[0][q][k].item<double>() > 0, k >= q - 3 && k <= q + 1);
  }
  EXPECT_THROW(encoder->AttentionMap(torch::randn({1, 60, kFeatures}), Lens({60}), 3), Error);
}

TEST(EncoderOptionsTest, WhatCannotBeIsNamed) {
  const auto error = [](const std::function<void(EncoderOptions&)>& change) -> std::string {
    EncoderOptions options = Tiny("local");
    change(options);
    try {
      options.Validate();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error([](EncoderOptions&) {}), "");
  EXPECT_NE(error([](EncoderOptions& o) { o.heads = 3; }).find("encoder.dim"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.heads = 0; }).find("encoder.heads"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.kv_heads = 3; }).find("encoder.kv_heads"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.pattern = "locl"; }).find("local"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.intermediate_layers = {2}; }).find("intermediate_layers"),
            std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.convolution.kernel = 4; }).find("kernel"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.subsampling.factor = 6; }).find("factor"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.skip.from_layer = 2; }).find("skip.from_layer"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.skip.from_layer = 1, o.gate.kind = GateKind::kOff; }).find("gate.kind"),
            std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.gate.floor = 0; }).find("floor"), std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) {
              o.num_layers = 4, o.intermediate_layers = {2, 1, 2};
            }).find("2 twice"),
            std::string::npos);
  EXPECT_NE(error([](EncoderOptions& o) { o.gate.attention_threshold = 1; }).find("attention_threshold"),
            std::string::npos);
}

}  // namespace
}  // namespace earshot
