#include "src/audio/pcm_source.h"

#include <fcntl.h>
#include <sndfile.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>

#include "src/audio/unique_fd.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

// A pipe that the test writes to.
class Pipe {
 public:
  Pipe() {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    out_ = UniqueFd(ends[0]);
    in_ = UniqueFd(ends[1]);
  }
  void Write(std::string_view bytes) {
    EXPECT_EQ(write(in_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  void End() { in_.Reset(); }
  int out() const { return out_.get(); }

 private:
  UniqueFd out_, in_;
};

template <class T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> ReadAll(PcmSource& source) {
  std::vector<float> all, block(50);
  while (!source.ended()) {
    const size_t n = source.Read(block, 1000);
    all.insert(all.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(n));
  }
  return all;
}

std::vector<float> Decode(const std::string& bytes, const PcmOptions& options = {}) {
  Pipe pipe;
  pipe.Write(bytes);
  pipe.End();
  PcmSource source(pipe.out(), options);
  EXPECT_TRUE(source.Start(1000));
  return ReadAll(source);
}

std::string Number(uint32_t value, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> 8 * i & 0xFF);
  return bytes;
}

// A WAV header as arecord writes it; chunks stand before the audio.
std::string Header(int tag, int channels, int rate, int bits, uint32_t length, const std::string& chunks = "") {
  return "RIFF" + Number(length, 4) + "WAVE" + chunks + "fmt " + Number(16, 4) + Number(tag, 2) + Number(channels, 2) +
         Number(rate, 4) + Number(rate * channels * bits / 8, 4) + Number(channels * bits / 8, 2) + Number(bits, 2) +
         "data" + Number(length, 4);
}

using PcmSourceFileTest = AudioTest;

TEST(PcmSourceTest, RawSixteenBits) {
  EXPECT_EQ(Decode(Bytes<int16_t>({-32768, -1, 0, 1, 32767})),
            (std::vector<float>{-1, -1 / 32768.0f, 0, 1 / 32768.0f, 32767 / 32768.0f}));
}

TEST(PcmSourceTest, RawFloatsOfTwoChannels) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Decode(Bytes<float>({0.5f, 0.25f, nan, 0.5f, inf, -1}), {.channels = 2, .format = PcmFormat::kF32}),
            (std::vector<float>{0.375f, 0.25f, -0.5f}));
}

TEST(PcmSourceTest, ReadsMayEndWithinASample) {
  Pipe pipe;
  PcmSource source(pipe.out(), {.channels = 2});
  const std::string bytes = Bytes<int16_t>({100, 300, -5000, -6000, 7, 9});
  std::vector<float> all, block(10);
  EXPECT_FALSE(source.Start(0));
  for (const char c : bytes) {
    pipe.Write({&c, 1});
    if (!source.Start(0)) continue;
    const size_t n = source.Read(block, 0);
    all.insert(all.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(n));
  }
  EXPECT_EQ(all, (std::vector<float>{200 / 32768.0f, -5500 / 32768.0f, 8 / 32768.0f}));
  EXPECT_FALSE(source.ended());
  pipe.Write("abc");
  pipe.End();
  EXPECT_EQ(source.Read(block, 0), 0u);
  EXPECT_TRUE(source.ended());
}

TEST(PcmSourceTest, GivesWhatIsThereWithoutWaitingForMore) {
  Pipe pipe;
  pipe.Write(Bytes<int16_t>({1, 2, 3}));
  PcmSource source(pipe.out(), {});
  ASSERT_TRUE(source.Start(0));
  std::vector<float> block(100);
  EXPECT_EQ(source.Read(block, 1000), 3u);
  EXPECT_EQ(source.Read(block, 5), 0u);
  EXPECT_FALSE(source.ended());
}

TEST(PcmSourceTest, OddNumberOfBytesLosesTheLast) {
  EXPECT_EQ(Decode(Bytes<int16_t>({16384, -16384}) + "x"), (std::vector<float>{0.5f, -0.5f}));
}

TEST(PcmSourceTest, WavGoesBeforeTheOptions) {
  Pipe pipe;
  pipe.Write(Header(1, 2, 44100, 16, 0x80000000) + Bytes<int16_t>({16384, 0, -16384, 0}));
  pipe.End();
  PcmSource source(pipe.out(), {.sample_rate = 8000, .format = PcmFormat::kF32});
  ASSERT_TRUE(source.Start(1000));
  EXPECT_EQ(source.sample_rate(), 44100);
  EXPECT_EQ(source.channels(), 2);
  EXPECT_EQ(source.description(), "standard input (WAV s16le), 44100 Hz, 2 channels");
  EXPECT_EQ(ReadAll(source), (std::vector<float>{0.25f, -0.25f}));
}

TEST(PcmSourceTest, WavHeaderMayComeInPieces) {
  Pipe pipe;
  PcmSource source(pipe.out(), {});
  const std::string list = "LIST" + Number(3, 4) + "abc" + std::string(1, '\0');
  for (const char c : Header(3, 1, 48000, 32, 0xFFFFFFFF, list)) {
    EXPECT_FALSE(source.Start(0));
    pipe.Write({&c, 1});
  }
  EXPECT_TRUE(source.Start(0));
  EXPECT_EQ(source.sample_rate(), 48000);
  pipe.Write(Bytes<float>({0.5f}));
  pipe.End();
  EXPECT_EQ(ReadAll(source), std::vector<float>{0.5f});
}

TEST(PcmSourceTest, WavEndsWhereItsHeaderSays) {
  EXPECT_EQ(Decode(Header(1, 1, 16000, 16, 4) + Bytes<int16_t>({16384, 8192}) + "LISTabcdefgh"),
            (std::vector<float>{0.5f, 0.25f}));
}

TEST_F(PcmSourceFileTest, WavOfEveryWidthAsLibsndfileWritesIt) {
  const std::vector<float> signal = {0, 0.5f, -0.5f, 0.25f, -1};
  for (const int format : {SF_FORMAT_PCM_U8, SF_FORMAT_PCM_16, SF_FORMAT_PCM_24, SF_FORMAT_PCM_32, SF_FORMAT_FLOAT}) {
    for (const int container : {SF_FORMAT_WAV, SF_FORMAT_WAVEX}) {
      const std::string path = Path("signal.wav");
      WriteSndfile(path, container | format, signal, 1, 22050);
      const std::vector<float> heard = Decode(ReadBytes(path));
      ASSERT_EQ(heard.size(), signal.size()) << std::hex << container << " " << format;
      EXPECT_LE(LargestDifference(heard, signal), 1.0 / 128) << std::hex << container << " " << format;
    }
  }
}

TEST(PcmSourceTest, StopGivesWhatHadComeAndThenEnds) {
  Pipe pipe;
  PcmSource source(pipe.out(), {});
  pipe.Write(Bytes<int16_t>({16384, -16384}));
  ASSERT_TRUE(source.Start(0));
  pipe.Write(Bytes<int16_t>({8192}));
  source.Stop();
  pipe.Write(Bytes<int16_t>({1, 2, 3}));
  EXPECT_EQ(ReadAll(source), (std::vector<float>{0.5f, -0.5f, 0.25f}));
}

TEST(PcmSourceTest, WhatIsNoPcmIsOneClearError) {
  const auto error = [](const std::string& bytes) { return ErrorOf([&] { Decode(bytes); }); };
  EXPECT_EQ(error(""), "standard input: is empty, expected audio; did the program before the pipe fail?");
  EXPECT_NE(error("fLaC....").find("is FLAC, expected raw PCM or WAV"), std::string::npos);
  EXPECT_NE(error("RIFF....AVI LIST").find("RIFF file of another kind"), std::string::npos);
  EXPECT_NE(error("RIFF....WAVEfmt ").find("damaged WAV header"), std::string::npos);
  EXPECT_NE(error(Header(7, 1, 8000, 8, 0)).find("a WAV of format 7 with 8 bits"), std::string::npos);
  EXPECT_NE(error(Header(1, 0, 8000, 16, 0)).find("0 channels"), std::string::npos);
  EXPECT_NE(error(Header(1, 1, 8000, 16, 0, "LIST" + Number(0x7FFFFFFF, 4))).find("damaged"), std::string::npos);
  EXPECT_THROW(PcmSource(0, {.sample_rate = 0}), Error);
  EXPECT_THROW(PcmSource(0, {.channels = 257}), Error);
  EXPECT_EQ(ErrorOf([] { ParsePcmFormat("s16el"); }), "sample format 's16el' is not known; did you mean 's16le'?");
}

}  // namespace
}  // namespace earshot
