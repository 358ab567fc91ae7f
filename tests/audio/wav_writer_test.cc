#include "src/audio/wav_writer.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

using WavWriterTest = AudioTest;

TEST_F(WavWriterTest, SixteenBitSamplesComeBackExactly) {
  std::vector<float> samples;
  for (int i = -32768; i <= 32767; ++i) samples.push_back(static_cast<float>(i) / 32768.0f);
  WriteWav(Path("all.wav"), samples, 22050);
  EXPECT_EQ(ReadAudio(Path("all.wav"), {.sample_rate = 0}), samples);
  const AudioInfo info = ProbeAudio(Path("all.wav"));
  EXPECT_EQ(info.sample_rate, 22050);
  EXPECT_EQ(info.channels, 1);
  EXPECT_EQ(info.format, "WAV (Microsoft), Signed 16 bit PCM");
  EXPECT_EQ(std::filesystem::file_size(Path("all.wav")), 44 + 2 * samples.size());
}

TEST_F(WavWriterTest, RoundsAndClips) {
  const float inf = std::numeric_limits<float>::infinity();
  WriteWav(Path("x.wav"), std::vector<float>{2, -2, inf, -inf, 0.6f / 32768, -0.6f / 32768, 0.4f / 32768}, 16000);
  const float step = 1.0f / 32768;
  EXPECT_EQ(ReadAudio(Path("x.wav")), (std::vector<float>{1 - step, -1, 1 - step, -1, step, -step, 0}));
}

TEST_F(WavWriterTest, NoSamplesMakeAHeaderOnly) {
  WriteWav(Path("none.wav"), {}, 16000);
  EXPECT_TRUE(ReadAudio(Path("none.wav")).empty());
}

TEST_F(WavWriterTest, BadInputThrowsAndLeavesNothing) {
  const std::vector<float> samples = {0, std::nanf(""), 0};
  EXPECT_EQ(ErrorOf([&] { WriteWav(Path("nan.wav"), samples, 16000); }),
            Path("nan.wav") + ": sample 1 is NaN; not written");
  EXPECT_THROW(WriteWav(Path("rate.wav"), {}, 0), Error);
  EXPECT_TRUE(std::filesystem::is_empty(Path("")));
}

}  // namespace
}  // namespace earshot
