#include "src/frontend/wave_augment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numbers>

#include "src/audio/wav_writer.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "tests/frontend/golden.h"

namespace earshot {
namespace {

constexpr int kRate = 16000;

std::vector<float> Tone(double hz, size_t size) {
  std::vector<float> tone(size);
  for (size_t i = 0; i < size; ++i)
    tone[i] = static_cast<float>(0.3 * std::sin(2 * std::numbers::pi * hz * static_cast<double>(i) / kRate));
  return tone;
}

std::vector<float> Noise(size_t size, uint64_t seed) {
  Random random(seed);
  std::vector<float> noise(size);
  for (float& x : noise) x = static_cast<float>(0.1 * random.Normal());
  return noise;
}

std::vector<float> Speech() {
  std::vector<float> speech = GoldenInput();
  speech.resize(32000);
  return speech;
}

double MeanSquare(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  return sum / static_cast<double>(x.size());
}

// Passages through 0 upwards, a second: the pitch of a tone.
double Pitch(std::span<const float> x) {
  int crossings = 0;
  for (size_t i = 1; i < x.size(); ++i) crossings += x[i - 1] < 0 && x[i] >= 0;
  return crossings * static_cast<double>(kRate) / static_cast<double>(x.size());
}

// Recordings and a list of them, in a folder of this test's own.
class WaveAugmentFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              (std::string("wave_augment_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    WriteWav((folder_ / "a.wav").string(), Noise(8000, 1), kRate);
    WriteWav((folder_ / "b.wav").string(), Noise(50000, 2), kRate);
    std::vector<float> room(4000, 0.0f);
    for (size_t i = 100; i < room.size(); ++i)
      room[i] = static_cast<float>(std::exp(-static_cast<double>(i) / 600)) * 0.2f * (i % 7 == 0 ? 1.0f : -0.3f);
    room[100] = 0.9f;
    WriteWav((folder_ / "room.wav").string(), room, kRate);
    WriteFileAtomically(List("noise.jsonl"), "{\"audio_filepath\": \"a.wav\"}\n{\"audio_filepath\": \"b.wav\"}\n\n");
    WriteFileAtomically(List("rooms.txt"), "room.wav\n");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string List(const std::string& name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST_F(WaveAugmentFiles, TheSameSeedGivesTheSameSamples) {
  const WaveAugment augment({.speed_factors = {0.9, 1.0, 1.1},
                             .speed_range = {0.98, 1.02},
                             .gain_db = {-6, 6},
                             .noise_list = List("noise.jsonl"),
                             .noise_probability = 0.7,
                             .rir_list = List("rooms.txt"),
                             .rir_probability = 0.5});
  std::vector<std::vector<float>> results;
  for (const uint64_t seed : {1, 1, 2}) {
    std::vector<float> samples = Speech();
    Random random(seed);
    augment.Apply(samples, kRate, random);
    results.push_back(samples);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], results[2]);
}

TEST_F(WaveAugmentFiles, NoiseComesAtTheDrawnRatio) {
  for (const double snr_db : {0.0, 12.0}) {
    const WaveAugment augment({.noise_list = List("noise.jsonl"), .noise_probability = 1, .snr_db = {snr_db, snr_db}});
    const std::vector<float> clean = Speech();
    for (uint64_t seed = 0; seed < 5; ++seed) {
      std::vector<float> noisy = clean;
      Random random(seed);
      augment.Apply(noisy, kRate, random);
      for (size_t i = 0; i < clean.size(); ++i) noisy[i] -= clean[i];
      EXPECT_NEAR(10 * std::log10(ActivePower(clean, kRate) / MeanSquare(noisy)), snr_db, 0.2);
    }
  }
}

TEST_F(WaveAugmentFiles, ProbabilitiesHold) {
  const WaveAugment augment({.noise_list = List("noise.jsonl"), .noise_probability = 0.3});
  const std::vector<float> clean = Noise(400, 3);
  int changed = 0;
  Random random(4);
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> samples = clean;
    augment.Apply(samples, kRate, random);
    changed += samples != clean;
  }
  EXPECT_NEAR(changed / 2000.0, 0.3, 0.05);
}

TEST_F(WaveAugmentFiles, BadListsAreErrors) {
  const auto message = [&](const std::string& content) {
    WriteFileAtomically(List("bad"), content);
    try {
      WaveAugment({.noise_list = List("bad"), .noise_probability = 1});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(""), testing::HasSubstr("lists no recording"));
  EXPECT_THAT(message("a.wav\n{\"audio\": 1}\n"), testing::HasSubstr("bad:2: "));
  EXPECT_THAT(message("{\"audio_filepath\": "), testing::HasSubstr("bad:1: "));
  EXPECT_THAT(message("missing.wav"), testing::HasSubstr("missing.wav"));
  WriteWav(List("silence.wav"), std::vector<float>(1000, 0.0f), kRate);
  EXPECT_THAT(message("silence.wav"), testing::HasSubstr("only silence"));
}

TEST(ActivePower, LeavesPausesOut) {
  // Half a second of tone and four of faint noise: the tone's power counts.
  std::vector<float> samples = Tone(400, 8000);
  std::vector<float> pause = Noise(64000, 5);
  for (float& x : pause) x *= 1e-3f;
  samples.insert(samples.end(), pause.begin(), pause.end());
  EXPECT_NEAR(10 * std::log10(ActivePower(samples, kRate) / (0.3 * 0.3 / 2)), 0, 0.05);
  EXPECT_EQ(ActivePower(std::vector<float>(8000, 0.0f), kRate), 0);
  EXPECT_EQ(ActivePower({}, kRate), 0);
}

TEST(AddNoise, RepeatsShortNoiseAndLeavesSilenceAlone) {
  std::vector<float> samples = Tone(400, 1000);
  const std::vector<float> clean = samples;
  const std::vector<float> noise = {0.1f, -0.1f, 0.05f};
  AddNoise(samples, noise, 1, 20, kRate);
  const float scale = (samples[0] - clean[0]) / noise[1];
  EXPECT_GT(scale, 0);
  for (size_t i = 0; i < samples.size(); ++i) ASSERT_NEAR(samples[i] - clean[i], scale * noise[(1 + i) % 3], 1e-6) << i;
  std::vector<float> silence(100, 0.0f);
  AddNoise(silence, noise, 0, 10, kRate);
  EXPECT_EQ(silence, std::vector<float>(100, 0.0f));
  AddNoise({}, noise, 0, 10, kRate);
}

TEST(ChangeSpeed, ChangesLengthAndPitch) {
  const std::vector<float> tone = Tone(500, 32000);
  for (const double factor : {0.9, 1.1, 1.037}) {
    const std::vector<float> changed = ChangeSpeed(tone, factor, kRate);
    EXPECT_EQ(changed.size(), static_cast<size_t>(std::llround(32000 / factor)));
    EXPECT_NEAR(Pitch(changed), 500 * factor, 1.5);
    EXPECT_NEAR(MeanSquare(changed) / MeanSquare(tone), 1, 0.01);
  }
}

TEST(Reverberate, AnImpulseIsIdentity) {
  const std::vector<float> speech = Speech();
  for (const auto& impulse : {std::vector<float>{1}, std::vector<float>{0, 0, 0, 0.5f, 0}}) {
    std::vector<float> samples = speech;
    Reverberate(samples, impulse);
    ExpectNear(samples, speech, 1, 1e-6f);
  }
}

TEST(Reverberate, KeepsLengthLevelAndTheDirectPath) {
  std::vector<float> room(3000, 0.0f);
  room[200] = 1;
  room[1000] = 0.5f;
  std::vector<float> click(8000, 0.0f);
  click[4000] = 1;
  Reverberate(click, room);
  ASSERT_EQ(click.size(), 8000U);
  const float direct = 1 / std::sqrt(1.25f);
  EXPECT_NEAR(click[4000], direct, 1e-5);
  EXPECT_NEAR(click[4800], 0.5f * direct, 1e-5);
  EXPECT_NEAR(MeanSquare(click) * 8000, 1, 1e-4);
  std::vector<float> silence(100, 0.0f);
  Reverberate(silence, room);
  EXPECT_EQ(silence, std::vector<float>(100, 0.0f));
}

TEST(WaveAugment, GainIsWithinItsRange) {
  const WaveAugment augment({.gain_db = {-6, 3}});
  Random random(1);
  double lowest = 100, highest = -100;
  for (int i = 0; i < 200; ++i) {
    std::vector<float> samples = {0.5f};
    augment.Apply(samples, kRate, random);
    const double db = 20 * std::log10(samples[0] / 0.5);
    lowest = std::min(lowest, db);
    highest = std::max(highest, db);
  }
  EXPECT_NEAR(lowest, -6, 0.3);
  EXPECT_NEAR(highest, 3, 0.3);
  EXPECT_GE(lowest, -6.0001);
  EXPECT_LE(highest, 3.0001);
}

TEST(WaveAugment, WithoutOptionsItDoesNothing) {
  std::vector<float> samples = Speech();
  Random random(1);
  WaveAugment({}).Apply(samples, kRate, random);
  EXPECT_EQ(samples, Speech());
  EXPECT_THROW(WaveAugment({}).Apply(samples, 8000, random), LogicError);
}

TEST(WaveAugmentOptions, BadValuesAreErrors) {
  EXPECT_THROW(WaveAugmentOptions{.sample_rate = 0}.Validate(), Error);
  EXPECT_THROW((WaveAugmentOptions{.speed_factors = {0.0}}.Validate()), Error);
  EXPECT_THROW((WaveAugmentOptions{.speed_range = {1.1, 0.9}}.Validate()), Error);
  EXPECT_THROW((WaveAugmentOptions{.gain_db = {1}}.Validate()), Error);
  EXPECT_THROW((WaveAugmentOptions{.noise_probability = 0.5}.Validate()), Error);
  EXPECT_THROW((WaveAugmentOptions{.rir_list = "x", .rir_probability = 2}.Validate()), Error);
}

}  // namespace
}  // namespace earshot
