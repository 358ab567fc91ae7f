#include "src/serve/audio_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace earshot {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::IsEmpty;

template <class... Floats>
std::string FloatBytes(Floats... values) {
  const float array[] = {static_cast<float>(values)...};
  return std::string(reinterpret_cast<const char*>(array), sizeof(array));
}

TEST(AudioBytes, ReadsSixteenBits) {
  AudioDecoder decoder;
  EXPECT_THAT(decoder.Decode(std::string("\x00\x00\x00\x80\x00\x40\xff\xff", 8)),
              ElementsAre(0.0f, -1.0f, 0.5f, FloatEq(-1.0f / 32768)));
}

TEST(AudioBytes, AnySplitOfTheBytesGivesTheSameSamples) {
  const std::string bytes("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c", 12);
  for (const int channels : {1, 2}) {
    const std::vector<float> whole = AudioDecoder({.channels = channels}).Decode(bytes);
    for (size_t split = 0; split <= bytes.size(); ++split) {
      AudioDecoder decoder({.channels = channels});
      std::vector<float> samples = decoder.Decode(std::string_view(bytes).substr(0, split));
      for (const float sample : decoder.Decode(std::string_view(bytes).substr(split))) samples.push_back(sample);
      EXPECT_EQ(samples, whole) << "split at " << split;
    }
  }
}

TEST(AudioBytes, AnOddByteWaitsAndIsForgottenByReset) {
  AudioDecoder decoder;
  EXPECT_THAT(decoder.Decode("\x7f"), IsEmpty());
  decoder.Reset();
  EXPECT_THAT(decoder.Decode(std::string("\x00\x40", 2)), ElementsAre(0.5f));
}

TEST(AudioBytes, FloatsThatAreNoNumbersAreZeroAndLoudOnesAreCut) {
  AudioDecoder decoder({.encoding = AudioEncoding::kF32});
  EXPECT_THAT(decoder.Decode(FloatBytes(std::nanf(""), std::numeric_limits<float>::infinity(), 0.25, 1e30, -7)),
              ElementsAre(0.0f, 0.0f, 0.25f, 1.0f, -1.0f));
}

TEST(AudioBytes, AveragesChannels) {
  AudioDecoder decoder({.encoding = AudioEncoding::kF32, .channels = 2});
  EXPECT_THAT(decoder.Decode(FloatBytes(0.5, -0.5, 0.25, 0.75)), ElementsAre(0.0f, 0.5f));
}

// Values of ITU-T G.711's tables: the ends, the smallest, and one in between.
TEST(AudioBytes, ReadsG711) {
  const auto at = [](AudioEncoding encoding, int code) {
    return AudioDecoder({.encoding = encoding}).Decode(std::string(1, static_cast<char>(code)))[0] * 32768;
  };
  EXPECT_EQ(at(AudioEncoding::kULaw, 0x00), -32124);
  EXPECT_EQ(at(AudioEncoding::kULaw, 0x80), 32124);
  EXPECT_EQ(at(AudioEncoding::kULaw, 0xff), 0);
  EXPECT_EQ(at(AudioEncoding::kULaw, 0x7f), 0);
  EXPECT_EQ(at(AudioEncoding::kULaw, 0xf0), 120);
  EXPECT_EQ(at(AudioEncoding::kALaw, 0xd5), 8);
  EXPECT_EQ(at(AudioEncoding::kALaw, 0x55), -8);
  EXPECT_EQ(at(AudioEncoding::kALaw, 0xaa), 32256);
  EXPECT_EQ(at(AudioEncoding::kALaw, 0x2a), -32256);
}

}  // namespace
}  // namespace earshot
