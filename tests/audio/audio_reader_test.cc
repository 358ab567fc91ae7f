#include "src/audio/audio_reader.h"

#include <fcntl.h>
#include <sndfile.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "src/audio/resampler.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

struct Format {
  const char* name;
  int format;
  // The least signal to noise ratio against what was written.
  double min_snr_db;
  // Frames that the decoder may give more or less (an MP3 frame's padding).
  int length_slack = 0;
};

constexpr Format kFormats[] = {
    {"u8.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 30},
    {"s16.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 75},
    {"s24.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_24, 120},
    {"s32.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_32, 130},
    {"f32.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, 130},
    {"f64.wav", SF_FORMAT_WAV | SF_FORMAT_DOUBLE, 130},
    {"alaw.wav", SF_FORMAT_WAV | SF_FORMAT_ALAW, 30},
    {"ulaw.wav", SF_FORMAT_WAV | SF_FORMAT_ULAW, 30},
    {"big-endian.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG, 75},
    {"rf64.wav", SF_FORMAT_RF64 | SF_FORMAT_PCM_16, 75},
    {"s16.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16, 75},
    {"ulaw.au", SF_FORMAT_AU | SF_FORMAT_ULAW, 30},
    {"s16.sph", SF_FORMAT_NIST | SF_FORMAT_PCM_16, 75},
    {"ulaw.sph", SF_FORMAT_NIST | SF_FORMAT_ULAW, 30},
    {"s16.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 75},
    {"s24.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 120},
    {"vorbis.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 10},
    {"opus.ogg", SF_FORMAT_OGG | SF_FORMAT_OPUS, 10},
    {"layer3.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 10, 2304},
};

class AudioFormatTest : public AudioTest, public ::testing::WithParamInterface<Format> {};

INSTANTIATE_TEST_SUITE_P(All, AudioFormatTest, ::testing::ValuesIn(kFormats), [](const auto& info) {
  std::string name = info.param.name;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
});

TEST_P(AudioFormatTest, GivesTheMeanOfItsChannels) {
  const auto& [name, format, min_snr_db, length_slack] = GetParam();
  const bool is_opus = (format & SF_FORMAT_SUBMASK) == SF_FORMAT_OPUS;
  const bool is_mp3 = (format & SF_FORMAT_TYPEMASK) == SF_FORMAT_MPEG;
  for (const int sample_rate : {8000, 16000, 44100, 48000}) {
    if (is_opus && sample_rate == 44100) continue;  // Opus has no such rate
    for (const int channels : {1, 2, 6}) {
      if (is_mp3 && channels == 6) continue;  // nor MP3 such channels
      SCOPED_TRACE(fmt::format("{} Hz, {} channels", sample_rate, channels));
      const int64_t frames = sample_rate / 2 + 17;
      const auto signal = TestSignal(frames, channels, sample_rate);
      WriteSndfile(Path(name), format, signal, channels, sample_rate);

      const auto reader = AudioReader::Open(Path(name), {.sample_rate = 0});
      EXPECT_EQ(reader->sample_rate(), sample_rate);
      EXPECT_NEAR(reader->duration_s() * sample_rate, static_cast<double>(frames), length_slack + 1e-6);
      const auto samples = ReadAudio(Path(name), {.sample_rate = 0});
      EXPECT_NEAR(static_cast<double>(samples.size()), static_cast<double>(frames), length_slack);
      EXPECT_GT(SignalToNoiseDb(MeanOfChannels(signal, channels), samples), min_snr_db);
    }
  }
}

TEST_P(AudioFormatTest, PiecesJoinExactly) {
  const auto& [name, format, min_snr_db, length_slack] = GetParam();
  WriteSndfile(Path(name), format, TestSignal(40000, 2, 16000), 2, 16000);
  const auto whole = ReadAudio(Path(name));
  const double borders[] = {0, 0.1234, 0.5, 1.00003, 2.2, 9};
  std::vector<float> joined;
  for (size_t i = 0; i + 1 < std::size(borders); ++i) {
    const auto piece = ReadAudio(Path(name), {.offset_s = borders[i], .duration_s = borders[i + 1] - borders[i]});
    joined.insert(joined.end(), piece.begin(), piece.end());
  }
  ASSERT_EQ(joined.size(), whole.size());
  // MP3 decoding through a filter bank in float is the one that may differ in the last bit.
  EXPECT_LT(LargestDifference(joined, whole), 1e-6);
}

using AudioReaderTest = AudioTest;

TEST_F(AudioReaderTest, ResamplesInBlocksOfAnySize) {
  const auto signal = TestSignal(44100, 1, 44100);
  WriteSndfile(Path("x.wav"), SF_FORMAT_WAV | SF_FORMAT_FLOAT, signal, 1, 44100);
  const auto expected = Resample(signal, 44100, 16000);
  EXPECT_EQ(ReadAudio(Path("x.wav")), expected);
  for (const size_t block : {size_t{1}, size_t{160}, size_t{4097}, size_t{100000}}) {
    const auto reader = AudioReader::Open(Path("x.wav"), {});
    EXPECT_EQ(reader->sample_rate(), 16000);
    EXPECT_EQ(reader->duration_s(), 1);
    std::vector<float> buffer(block), samples;
    while (const size_t n = reader->Read(buffer)) {
      samples.insert(samples.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n));
      if (n < block) {
        EXPECT_EQ(samples.size(), expected.size()) << "a block that is not the last was not full";
      }
    }
    EXPECT_EQ(samples, expected) << "blocks of " << block;
    EXPECT_EQ(reader->Read(buffer), 0u) << "after the end stays the end";
  }
}

TEST_F(AudioReaderTest, ReadingIntoNothingIsNotTheEnd) {
  WriteWav(Path("x.wav"), TestSignal(100, 1, 16000), 16000);
  const auto reader = AudioReader::Open(Path("x.wav"), {});
  EXPECT_EQ(reader->Read({}), 0u);
  std::vector<float> buffer(200);
  EXPECT_EQ(reader->Read(buffer), 100u);
}

TEST_F(AudioReaderTest, OffsetAndDuration) {
  std::vector<float> ramp(16000);
  for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<float>(i) / 32768;
  WriteWav(Path("ramp.wav"), ramp, 16000);
  const auto first_of = [&](const AudioOptions& options) {
    return std::lround(ReadAudio(Path("ramp.wav"), options).at(0) * 32768);
  };
  EXPECT_EQ(first_of({.offset_s = 0.25}), 4000);
  EXPECT_EQ(ReadAudio(Path("ramp.wav"), {.offset_s = 0.25, .duration_s = 0.5}).size(), 8000u);
  EXPECT_EQ(ReadAudio(Path("ramp.wav"), {.offset_s = 0.75, .duration_s = 5}).size(), 4000u);
  EXPECT_EQ(ReadAudio(Path("ramp.wav"), {.duration_s = 0}).size(), 0u);
  EXPECT_EQ(ReadAudio(Path("ramp.wav"), {.offset_s = 1}).size(), 0u);
  EXPECT_EQ(ReadAudio(Path("ramp.wav"), {.sample_rate = 8000, .offset_s = 0.25, .duration_s = 0.5}).size(), 4000u);
  EXPECT_EQ(ErrorOf([&] { ReadAudio(Path("ramp.wav"), {.offset_s = 1.5}); }),
            Path("ramp.wav") + ": offset 1.500 s lies past the end, 1.000 s; does the manifest belong to this file?");
}

TEST_F(AudioReaderTest, BadOptionsNameTheKey) {
  WriteWav(Path("x.wav"), TestSignal(100, 1, 16000), 16000);
  const auto error = [&](const AudioOptions& options) {
    return ErrorOf([&] { AudioReader::Open(Path("x.wav"), options); });
  };
  EXPECT_NE(error({.sample_rate = -1}).find("sample_rate"), std::string::npos);
  EXPECT_NE(error({.offset_s = -0.1}).find("offset_s"), std::string::npos);
  EXPECT_NE(error({.offset_s = std::nan("")}).find("offset_s"), std::string::npos);
  EXPECT_NE(error({.duration_s = -2}).find("duration_s"), std::string::npos);
}

TEST_F(AudioReaderTest, ProbeTellsWhatTheHeaderSays) {
  WriteSndfile(Path("x.flac"), SF_FORMAT_FLAC | SF_FORMAT_PCM_16, TestSignal(22050, 2, 44100), 2, 44100);
  const AudioInfo info = ProbeAudio(Path("x.flac"));
  EXPECT_EQ(info.sample_rate, 44100);
  EXPECT_EQ(info.channels, 2);
  EXPECT_EQ(info.duration_s, 0.5);
  EXPECT_EQ(info.format, "FLAC (Free Lossless Audio Codec), Signed 16 bit PCM");
}

// The peak of this process's memory in KiB.
int64_t PeakMemoryKib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6));
  return -1;
}

TEST_F(AudioReaderTest, TwoHoursTakeNoMemory) {
  // A sparse file: a header for two hours, then zeros that the disk never holds.
  WriteWav(Path("one.wav"), std::vector<float>(1), 16000);
  const uint32_t data_bytes = 2 * 3600 * 16000 * 2;
  std::string header = ReadBytes(Path("one.wav")).substr(0, 44);
  for (int i = 0; i < 4; ++i) {
    header[4 + i] = static_cast<char>((data_bytes + 36) >> 8 * i);
    header[40 + i] = static_cast<char>(data_bytes >> 8 * i);
  }
  WriteBytes(Path("long.wav"), header);
  ASSERT_EQ(truncate(Path("long.wav").c_str(), 44 + int64_t{data_bytes}), 0);

  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts again from here
  const int64_t before = PeakMemoryKib();
  const auto reader = AudioReader::Open(Path("long.wav"), {.sample_rate = 8000});
  EXPECT_EQ(reader->duration_s(), 7200);
  std::vector<float> block(8000);
  int64_t total = 0;
  while (const size_t n = reader->Read(block)) total += static_cast<int64_t>(n);
  EXPECT_EQ(total, int64_t{7200} * 8000);
  EXPECT_LT(PeakMemoryKib() - before, 8 * 1024) << "KiB more, where the samples alone are 225,000";
}

}  // namespace
}  // namespace earshot
