#include "src/audio/ogg_opus.h"

#include <fcntl.h>
#include <sndfile.h>

#include "src/audio/audio_reader.h"
#include "src/audio/sndfile_source.h"
#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

// Time stamps that are 10 ms late from 1.9 s to 3 s, as clips have that were cut out of lossy files.
constexpr const char* kLate = "asetnsamples=n=320,asetpts='PTS+if(between(N/320,97,148),163,0)'";

class OggOpusTest : public AudioTest {
 protected:
  // Five seconds at 16 kHz by ffmpeg, with a filter and further arguments for the encoder.
  std::string Encode(const std::string& name, const std::string& filter, const std::vector<std::string>& more = {}) {
    WriteWav(Path("source.wav"), TestSignal(80000, 1, 16000), 16000);
    std::vector<std::string> argv = {"ffmpeg", "-v",  "error", "-y",   "-i",   Path("source.wav"),
                                     "-ar",    "16k", "-af",   filter, "-c:a", "libopus"};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.push_back(Path(name));
    RunProgram(argv);
    return Path(name);
  }

  std::string Write(const std::string& name, const std::string& bytes) {
    WriteBytes(Path(name), bytes);
    return Path(name);
  }
};

UniqueFd OpenFd(const std::string& path) { return UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

bool IsUneven(const std::string& path) { return HasUnevenOggOpusPages(OpenFd(path).get()); }

// Fails the test where libsndfile alone would do, for then nothing is tested here.
void ExpectLibsndfileFails(const std::string& path) {
  SndfileSource source("alone", OpenFd(path), {});
  std::vector<float> samples(1 << 20);
  while (source.Read(samples) > 0) {
  }
  EXPECT_NE(source.Damage(), "") << path;
}

TEST_F(OggOpusTest, LateTimeStampsLoseNothing) {
  const std::string late = Encode("late.opus", kLate);
  EXPECT_TRUE(IsUneven(late));
  ExpectLibsndfileFails(late);
  const auto expected = ReadAudio(Encode("even.opus", "anull"));
  const auto actual = ReadAudio(late);
  ASSERT_EQ(expected.size(), 80000u);
  EXPECT_EQ(actual.size(), expected.size());
  // The packets are the same; libopus at 16 kHz and ffmpeg at 48 kHz are not.
  EXPECT_GT(SignalToNoiseDb(expected, actual), 30);
  for (const size_t begin : {0u, 20000u, 40000u, 60000u, 79000u})
    EXPECT_GT(SignalToNoiseDb(std::span(expected).subspan(begin, 1000), std::span(actual).subspan(begin, 1000)), 20)
        << "from sample " << begin;
  const AudioOptions own_rate = {.sample_rate = 0, .offset_s = 3.5, .duration_s = 1};
  const auto whole = ReadAudio(late, {.sample_rate = 0});
  EXPECT_EQ(LargestDifference(ReadAudio(late, own_rate), std::span(whole).subspan(168000, 48000)), 0)
      << "a piece across the place";
}

TEST_F(OggOpusTest, GapsInTheTimeStampsAreNoDamage) {
  const std::string path = Encode("gap.opus", "asetnsamples=n=320,asetpts='PTS+if(gte(N/320,120),32000,0)'");
  EXPECT_TRUE(IsUneven(path));
  ExpectLibsndfileFails(path);
  EXPECT_NEAR(static_cast<double>(ReadAudio(path).size()), 80000, 320);
}

TEST_F(OggOpusTest, DamageIsReportedAllTheSame) {
  const std::string whole = ReadBytes(Encode("late.opus", kLate));
  const std::string cut = Write("cut.opus", whole.substr(0, whole.size() - 2000));
  EXPECT_FALSE(IsUneven(cut));
  EXPECT_NE(ErrorOf([&] { ReadAudio(cut); }).find("truncated"), std::string::npos);
  // What libsndfile refuses is one packet; it goes on behind it.
  EXPECT_GT(ReadAudio(cut, {.allow_damaged = true}).size(), 60000u);

  const size_t third = whole.find("OggS", whole.size() / 2);
  const std::string lost = Write("lost.opus", whole.substr(0, third) + whole.substr(whole.find("OggS", third + 4)));
  EXPECT_FALSE(IsUneven(lost));
  EXPECT_NE(ErrorOf([&] { ReadAudio(lost); }), "");

  std::string harmed = whole;
  for (size_t i = 0; i < 400; ++i) harmed[harmed.size() / 2 + i] = static_cast<char>(i * 37 + 11);
  EXPECT_NE(ErrorOf([&] { ReadAudio(Write("harmed.opus", harmed)); }), "");
}

TEST_F(OggOpusTest, WhatLibsndfileReadsIsLeftToIt) {
  // SILK, hybrid and CELT, with packets of every length and of one or more frames.
  struct Case {
    const char *frame_ms, *bit_rate, *application;
  };
  for (const auto& [frame_ms, bit_rate, application] :
       {Case{"2.5", "96k", "lowdelay"}, Case{"5", "24k", "lowdelay"}, Case{"10", "8k", "voip"},
        Case{"20", "24k", "voip"}, Case{"20", "96k", "audio"}, Case{"40", "8k", "voip"}, Case{"60", "24k", "voip"},
        Case{"120", "24k", "voip"}}) {
    const std::string path =
        Encode("x.opus", "anull", {"-frame_duration", frame_ms, "-b:a", bit_rate, "-application", application});
    EXPECT_FALSE(IsUneven(path)) << frame_ms << " ms, " << bit_rate << "bit/s";
  }
  EXPECT_FALSE(IsUneven(Encode("dtx.opus", "volume=0:enable='gt(t,2)'", {"-application", "voip", "-dtx", "1"})));
  WriteSndfile(Path("own.opus"), SF_FORMAT_OGG | SF_FORMAT_OPUS, TestSignal(240000, 2, 48000), 2, 48000);
  EXPECT_FALSE(IsUneven(Path("own.opus")));
  WriteSndfile(Path("x.ogg"), SF_FORMAT_OGG | SF_FORMAT_VORBIS, TestSignal(16000, 1, 16000), 1, 16000);
  EXPECT_FALSE(IsUneven(Path("x.ogg")));
  EXPECT_FALSE(IsUneven(Path("source.wav")));
  EXPECT_FALSE(IsUneven(Write("empty", "")));
}

// A page of stream 7 (or another) with a body of zeros: packets of one SILK frame of 10 ms.
std::string Page(int flags, int64_t granule, uint32_t sequence, const std::string& lacing, std::string body = "",
                 char serial = 7) {
  std::string page = std::string("OggS\0", 5) + static_cast<char>(flags);
  for (int i = 0; i < 8; ++i) page += static_cast<char>(granule >> 8 * i);
  page += serial + std::string(3, '\0');
  for (int i = 0; i < 4; ++i) page += static_cast<char>(sequence >> 8 * i);
  size_t size = 0;
  for (const char piece : lacing) size += static_cast<uint8_t>(piece);
  body.resize(size);
  return page + std::string(4, '\0') + static_cast<char>(lacing.size()) + lacing + body;
}

TEST_F(OggOpusTest, PagesByHand) {
  const std::string head = Page(2, 0, 0, "\x13", "OpusHead");
  // Tags over two pages, as with a cover picture; then a packet that begins on one page and ends on the next.
  const std::string tags = Page(0, -1, 1, "\xFF") + Page(1, 0, 2, "\x05");
  const std::string first = Page(0, 480, 3, "\x05\xFF");
  const auto uneven = [&](const std::string& pages) { return IsUneven(Write("hand.opus", head + tags + pages)); };
  EXPECT_FALSE(uneven(first + Page(5, 960, 4, "\x05")));
  EXPECT_FALSE(uneven(first + Page(5, 900, 4, "\x05"))) << "padding is cut off";
  EXPECT_TRUE(uneven(first + Page(5, 961, 4, "\x05")));
  EXPECT_TRUE(uneven(Page(0, 479, 3, "\x05\xFF") + Page(5, 960, 4, "\x05")));
  EXPECT_TRUE(uneven(Page(0, 481, 3, "\x05\xFF") + Page(5, 960, 4, "\x05")));
  EXPECT_FALSE(uneven(first + Page(1, -1, 4, "\xFF\xFF") + Page(5, 960, 5, "\x05"))) << "no packet ends in the middle";
  EXPECT_FALSE(uneven(first + Page(0, 5, 0, "\x01", "", 8) + Page(5, 960, 4, "\x05"))) << "a page of another stream";
  const std::string late = Page(0, 490, 3, "\x05");
  EXPECT_TRUE(uneven(late + Page(4, 960, 4, "\x05")));
  EXPECT_FALSE(uneven(late + Page(4, 960, 5, "\x05"))) << "a page is missing";
  EXPECT_FALSE(uneven(late + Page(5, 960, 4, "\x05"))) << "half a packet is missing";
  EXPECT_FALSE(uneven(late + Page(0, 960, 4, "\x05"))) << "the last page is missing";
  EXPECT_FALSE(uneven(late + Page(4, 960, 4, "\x05").substr(0, 30))) << "the last page is cut";
}

}  // namespace
}  // namespace earshot
