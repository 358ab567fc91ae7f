#include "src/data/example.h"

#include <gmock/gmock.h>

#include <cstring>
#include <limits>

#include "src/audio/audio_reader.h"
#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;

class ExampleTest : public testing::Test {
 protected:
  ExampleTest() {
    TrainTokenizer({.type = TokenizerType::kChar}, {"YES NO"}, folder_.Path("tokenizer.model"));
    parts_.features = MakeFeatureExtractor(FeatureOptions{});
    parts_.tokenizer = std::make_shared<Tokenizer>(Tokenizer::Load(folder_.Path("tokenizer.model")));
    parts_.encoder_frames = [](int64_t num_frames) { return num_frames / 4; };
  }

  Example Make(const ExampleOptions& options, const Utterance& utterance, uint64_t seed = 0) {
    Random random(seed);
    return ExampleMaker(options, parts_, {utterance})(utterance, random);
  }
  std::string MakeError(const Utterance& utterance, const ExampleOptions& options = {}) {
    return ErrorOf([&] { Make(options, utterance); });
  }
  Utterance Yes(double seconds = 1) { return {"u", folder_.WriteTone("u.wav", seconds), 0, -1, "YES", "s"}; }

  TestFolder folder_;
  ExampleParts parts_;
};

TEST_F(ExampleTest, FeaturesAndTokensOfThePlainUtterance) {
  const Example example = Make({}, Yes());
  EXPECT_EQ(example.id, "u");
  EXPECT_EQ(example.text, "YES");
  EXPECT_EQ(example.tokens, parts_.tokenizer->Encode("YES"));
  EXPECT_EQ(example.num_frames, 100);
  EXPECT_DOUBLE_EQ(example.duration_s, 1.0);
  EXPECT_EQ(example.features, parts_.features->Compute(ReadAudio(folder_.Path("u.wav"))));
  EXPECT_EQ(example.features.size(), 100U * 80U);
  // Nothing is drawn: evaluation is the same whatever the seed.
  EXPECT_EQ(Make({}, Yes(), 7).features, example.features);
}

TEST_F(ExampleTest, AugmentationFollowsTheSeed) {
  ExampleOptions options;
  options.wave.speed_factors = {0.9, 1.1};
  options.wave.gain_db = {-6, 6};
  options.vtln_range = {0.9, 1.1};
  const Example first = Make(options, Yes(), 1);
  EXPECT_EQ(Make(options, Yes(), 1).features, first.features);
  EXPECT_NE(Make(options, Yes(), 2).features, first.features);
  EXPECT_TRUE(first.num_frames == 91 || first.num_frames == 111) << first.num_frames;
  EXPECT_DOUBLE_EQ(first.duration_s, first.num_frames == 91 ? 14545 / 16000.0 : 17778 / 16000.0);
  ExampleOptions warp;
  warp.vtln_range = {0.8, 0.9};
  EXPECT_NE(Make(warp, Yes()).features, Make({}, Yes()).features);
}

TEST_F(ExampleTest, SplicesReplaceAudioAndText) {
  ExampleOptions options;
  options.splice.concat_probability = 1;
  options.splice.concat_max_utterances = 2;
  const Example example = Make(options, Yes());
  EXPECT_EQ(example.text, "YES YES");
  EXPECT_EQ(example.tokens, parts_.tokenizer->Encode("YES YES"));
  EXPECT_NEAR(example.duration_s, 2 - 0.008, 1e-6);
}

TEST_F(ExampleTest, AlignedTokensKeepTheirTimesUnderAugmentation) {
  ExampleOptions options;
  options.splice.alignments =
      folder_.Write("words.jsonl", R"({"id": "u", "words": [{"word": "YES", "start": 0.2, "end": 0.6}]})");
  const Example plain = Make(options, Yes());
  ASSERT_EQ(plain.token_spans.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(plain.token_spans[i].token, plain.tokens[i]);
    EXPECT_NEAR(plain.token_spans[i].start_s, 0.2 + 0.1 * static_cast<double>(i), 1e-9);
    EXPECT_NEAR(plain.token_spans[i].end_s, 0.3 + 0.1 * static_cast<double>(i), 1e-9);
  }
  options.wave.speed_factors = {0.8};
  EXPECT_NEAR(Make(options, Yes()).token_spans[3].end_s, 0.6 / 0.8, 1e-4);
  Utterance other = Yes();
  other.text = "NO";
  EXPECT_TRUE(Make(options, other).token_spans.empty()) << "the alignment is of other words";
}

// Every kind of utterance that training is to skip.
TEST_F(ExampleTest, BadUtterancesAreErrorsThatSayWhy) {
  Utterance utterance = Yes();
  utterance.text = "  ";
  EXPECT_THAT(MakeError(utterance), HasSubstr("u.wav: no text to learn"));
  ExampleOptions silence;
  silence.allow_empty_text = true;
  EXPECT_TRUE(Make(silence, utterance).tokens.empty());

  EXPECT_THAT(MakeError({"x", folder_.Path("none.wav"), 0, -1, "YES"}), HasSubstr("none.wav"));
  EXPECT_THAT(MakeError({"x", folder_.Write("empty.wav", ""), 0, -1, "YES"}), HasSubstr("empty.wav"));
  EXPECT_THAT(MakeError({"x", folder_.Write("text.wav", "this is no audio"), 0, -1, "YES"}), HasSubstr("text.wav"));
  const std::string whole = ReadFile(folder_.WriteTone("whole.wav", 1));
  EXPECT_THAT(MakeError({"x", folder_.Write("cut.wav", whole.substr(0, 9000)), 0, -1, "YES"}), HasSubstr("cut.wav"));
  EXPECT_THAT(MakeError(Yes(0.02)), HasSubstr("u.wav: 320 samples, fewer than one frame of 400"));
}

TEST_F(ExampleTest, SamplesThatAreNoNumbers) {
  // A float WAV, by hand: RIFF, fmt (3: IEEE float, one channel), data.
  std::vector<float> samples(8000, 0.25F);
  samples[4000] = std::numeric_limits<float>::quiet_NaN();
  const auto bytes = static_cast<uint32_t>(samples.size() * sizeof(float));
  std::string file;
  const auto add = [&file](auto value) {
    char raw[sizeof(value)];
    std::memcpy(raw, &value, sizeof(value));
    file.append(raw, sizeof(value));
  };
  file += "RIFF";
  add(uint32_t{36} + bytes);
  file += "WAVEfmt ";
  add(uint32_t{16});
  add(uint16_t{3});
  add(uint16_t{1});
  add(uint32_t{16000});
  add(uint32_t{64000});
  add(uint16_t{4});
  add(uint16_t{32});
  file += "data";
  add(bytes);
  for (const float x : samples) add(x);
  EXPECT_THAT(MakeError({"x", folder_.Write("nan.wav", file), 0, -1, "YES"}), HasSubstr("nan.wav"));
}

TEST_F(ExampleTest, TokensThatTheEncoderCannotHold) {
  // 0.2 s: 20 frames, 5 encoder frames. "YES" is 4 tokens with its leading space.
  EXPECT_EQ(Make({}, Yes(0.2)).tokens.size(), 4U);
  Utterance utterance = Yes(0.2);
  utterance.text = "YEES";
  EXPECT_EQ(parts_.tokenizer->Encode("YEES").size(), 5U);
  // Five tokens would fit; the blank between the two E does not.
  EXPECT_THAT(MakeError(utterance), HasSubstr("5 tokens need 6 encoder frames, 0.20 s give 5"));
}

TEST_F(ExampleTest, WhatIsOnlyTooFastIsTakenAsSpoken) {
  ExampleOptions options;
  options.wave.speed_factors = {1.5};
  const Example example = Make(options, Yes(0.2));
  EXPECT_EQ(example.num_frames, 20);
  EXPECT_EQ(example.features, Make({}, Yes(0.2)).features);
}

TEST_F(ExampleTest, LongUtterancesAreSkippedWhereAsked) {
  ExampleOptions options;
  options.max_duration_s = 0.5;
  EXPECT_THAT(MakeError(Yes(1), options), HasSubstr("1.00 s long, max_duration_s allows 0.50 s"));
}

TEST_F(ExampleTest, CtcFramesNeeded) {
  EXPECT_EQ(CtcFramesNeeded({}), 0);
  EXPECT_EQ(CtcFramesNeeded(std::vector<int>{5, 6, 5}), 3);
  EXPECT_EQ(CtcFramesNeeded(std::vector<int>{5, 5, 5, 6}), 6);
}

TEST_F(ExampleTest, OptionErrorsNameTheKey) {
  const auto error = [](auto&& change) {
    ExampleOptions options;
    change(options);
    return ErrorOf([&] { options.Validate(); });
  };
  EXPECT_THAT(error([](ExampleOptions& o) { o.cache_mb = -1; }), HasSubstr("cache_mb is -1"));
  EXPECT_THAT(error([](ExampleOptions& o) { o.vtln_range = {1.1, 0.9}; }), HasSubstr("vtln_range"));
  EXPECT_THAT(error([](ExampleOptions& o) { o.splice.probability = 1; }), HasSubstr("alignments is empty"));
}

}  // namespace
}  // namespace earshot
