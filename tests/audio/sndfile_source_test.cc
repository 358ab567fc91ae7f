// Truncated and damaged files that libsndfile ends as if they were whole.
#include "src/audio/sndfile_source.h"

#include <fcntl.h>
#include <sndfile.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>

#include "src/audio/audio_reader.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

class SndfileSourceTest : public AudioTest {
 protected:
  // Three seconds of a format, in a file whose bytes change() may harm.
  std::string Make(const std::string& name, int format, const std::function<void(std::string&)>& change) {
    // Noise, so that no codec makes it too small to cut.
    std::vector<float> samples = TestSignal(48000, 1, 16000);
    uint32_t state = 1;
    for (float& x : samples) {
      state = state * 1664525 + 1013904223;
      x = 0.8f * x + 0.1f * (static_cast<float>(state >> 8) / (1 << 23) - 1);
    }
    WriteSndfile(Path(name), format, samples, 1, 16000);
    std::string bytes = ReadBytes(Path(name));
    change(bytes);
    WriteBytes(Path(name), bytes);
    return Path(name);
  }

  // Everything is handed out first, then one Error; with allow_damaged no Error. Returns {message, seconds}.
  std::pair<std::string, double> Damage(const std::string& path) {
    const auto reader = AudioReader::Open(path, {});
    std::vector<float> samples(100000);
    const size_t size = reader->Read(samples);
    const std::string error = ErrorOf([&] { reader->Read(samples); });
    EXPECT_TRUE(error.starts_with(path + ": ")) << error;
    EXPECT_THROW(ReadAudio(path), Error);
    EXPECT_EQ(ReadAudio(path, {.allow_damaged = true}).size(), size);
    // A piece from before the damage is nobody's concern.
    EXPECT_EQ(ReadAudio(path, {.duration_s = 0.5}).size(), 8000u);
    return {error, static_cast<double>(size) / 16000};
  }
};

void CutInHalf(std::string& bytes) { bytes.resize(bytes.size() / 2); }

void HarmTheMiddle(std::string& bytes) {
  for (size_t i = 0; i < 400; ++i) bytes[bytes.size() / 2 + i] = static_cast<char>(i * 37 + 11);
}

// libsndfile closes a descriptor that it cannot read, whatever it was told: ours would be closed twice, and the second
// time it may be another thread's.
TEST_F(SndfileSourceTest, WhatIsRefusedClosesNoDescriptorOfAnother) {
  WriteBytes(Path("no_audio"), std::string(4096, 'x'));
  std::atomic<bool> done = false;
  std::atomic<int> lost = 0;
  std::thread other([&] {
    while (!done) {
      const UniqueFd mine(open("/dev/null", O_RDONLY | O_CLOEXEC));
      for (int i = 0; i < 20; ++i)
        if (fcntl(mine.get(), F_GETFD) < 0) ++lost;
    }
  });
  for (int i = 0; i < 3000; ++i)
    EXPECT_THROW(SndfileSource("", UniqueFd(open(Path("no_audio").c_str(), O_RDONLY | O_CLOEXEC)), {}), NotSndfile);
  done = true;
  other.join();
  EXPECT_EQ(lost, 0);
}

TEST_F(SndfileSourceTest, TruncatedWavAndAiff) {
  for (const auto& [name, format] : {std::pair{"cut.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
                                     {"cut.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
                                     {"big-endian.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG}}) {
    const auto [error, seconds] = Damage(Make(name, format, CutInHalf));
    EXPECT_NEAR(seconds, 1.5, 0.01) << "what is there is given";
    EXPECT_NE(error.find("bytes before its header says; the file is truncated"), std::string::npos) << error;
  }
}

TEST_F(SndfileSourceTest, TruncatedWavOnAPipe) {
  Make("cut.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, CutInHalf);
  const std::string bytes = ReadBytes(Path("cut.wav"));
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd read_end(ends[0]);
  {
    const UniqueFd write_end(ends[1]);
    ASSERT_EQ(write(write_end.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  SndfileSource source("pipe", std::move(read_end), {.is_stream = true});
  std::vector<float> samples(100000);
  EXPECT_NEAR(static_cast<double>(source.Read(samples)), 24000, 100);
  EXPECT_NE(source.Damage().find("the header promises 3.00 s, 1.50 s could be decoded"), std::string::npos)
      << source.Damage();
}

TEST_F(SndfileSourceTest, TruncatedFlacAndOgg) {
  const auto [flac, flac_s] = Damage(Make("cut.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, CutInHalf));
  EXPECT_NE(flac.find("decoding failed after 1."), std::string::npos) << flac;
  EXPECT_GT(flac_s, 1);
  const auto [ogg, ogg_s] = Damage(Make("cut.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, CutInHalf));
  EXPECT_NE(ogg.find("without a last page; the file is truncated"), std::string::npos) << ogg;
  EXPECT_GT(ogg_s, 0.5);
}

TEST_F(SndfileSourceTest, DamageInTheMiddle) {
  const auto [flac, flac_s] = Damage(Make("bad.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, HarmTheMiddle));
  EXPECT_NE(flac.find("decoding failed after 1."), std::string::npos) << flac;
  EXPECT_LT(flac_s, 2.9);
}

TEST_F(SndfileSourceTest, AnMp3WhoseDecoderGivesUp) {
  const int format = SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III;
  // At another sample rate in mid-stream libsndfile ends quietly; where mpg123 finds no next frame, with an error.
  WriteSndfile(Path("other.mp3"), format, TestSignal(48000, 1, 22050), 1, 22050);
  const auto [quiet, quiet_s] =
      Damage(Make("joined.mp3", format, [&](std::string& bytes) { bytes += ReadBytes(Path("other.mp3")); }));
  EXPECT_NE(quiet.find("the MP3 decoder stopped after 3."), std::string::npos) << quiet;
  EXPECT_NEAR(quiet_s, 3, 0.2);
  const auto [loud, loud_s] =
      Damage(Make("zeros.mp3", format, [](std::string& bytes) { bytes.insert(bytes.size() / 2, 20000, '\0'); }));
  EXPECT_NE(loud.find("decoding failed after 1."), std::string::npos) << loud;
  EXPECT_NEAR(loud_s, 1.5, 0.3);
}

TEST_F(SndfileSourceTest, LengthsThatWereNeverFilledInAreNoDamage) {
  for (const char byte : {'\xFF', '\0'}) {
    const std::string path = Make("live.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, [&](std::string& bytes) {
      for (const size_t at : {4, 5, 6, 7, 40, 41, 42, 43}) bytes[at] = byte;
    });
    EXPECT_EQ(ReadAudio(path).size(), 48000u) << "length bytes of " << static_cast<int>(byte);
  }
}

TEST_F(SndfileSourceTest, WhatFollowsTheDataIsNoDamage) {
  const std::string path = Make("tail.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16,
                                [](std::string& bytes) { bytes += std::string("LIST\x04\0\0\0INFO", 12); });
  EXPECT_EQ(ReadAudio(path).size(), 48000u);
}

TEST_F(SndfileSourceTest, SamplesThatAreNoNumbers) {
  for (const auto& [value, word] : {std::pair{std::numeric_limits<float>::quiet_NaN(), "NaN"},
                                    {std::numeric_limits<float>::infinity(), "infinite"},
                                    {-std::numeric_limits<float>::infinity(), "infinite"}}) {
    auto samples = TestSignal(32000, 1, 16000);
    samples[24000] = value;
    WriteSndfile(Path("nan.wav"), SF_FORMAT_WAV | SF_FORMAT_FLOAT, samples, 1, 16000);
    EXPECT_EQ(ErrorOf([&] { ReadAudio(Path("nan.wav"), {.allow_damaged = true}); }),
              Path("nan.wav") + ": sample 24000 (at 1.500 s) is " + word +
                  ", expected finite numbers; mend or leave out this file");
    EXPECT_EQ(ReadAudio(Path("nan.wav"), {.duration_s = 1.5}).size(), 24000u) << "before it all is well";
  }
}

TEST_F(SndfileSourceTest, AHeaderAloneIsEmptyAudio) {
  for (const auto& [name, format] :
       {std::pair{"x.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16}, {"x.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16}}) {
    WriteSndfile(Path(name), format, {}, 1, 16000);
    EXPECT_TRUE(ReadAudio(Path(name)).empty()) << name;
    EXPECT_EQ(AudioReader::Open(Path(name), {})->duration_s(), 0) << name;
  }
}

}  // namespace
}  // namespace earshot
