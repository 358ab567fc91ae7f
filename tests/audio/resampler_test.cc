#include "src/audio/resampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "src/base/error.h"
#include "tests/audio/audio_test_util.h"

namespace earshot {
namespace {

std::vector<float> Sine(double frequency_hz, double sample_rate, size_t size) {
  std::vector<float> sine(size);
  for (size_t i = 0; i < size; ++i)
    sine[i] =
        static_cast<float>(0.5 * std::sin(2 * std::numbers::pi * frequency_hz * static_cast<double>(i) / sample_rate));
  return sine;
}

struct Rates {
  double input, output;
};

constexpr Rates kRates[] = {{44100, 16000}, {8000, 16000},  {48000, 16000}, {16000, 17600},
                            {22050, 16000}, {11025, 16000}, {96000, 16000}, {16000, 15999.3}};

TEST(ResamplerTest, SineKeepsFrequencyAmplitudeAndPhase) {
  for (const auto [input, output] : kRates) {
    for (const double frequency : {100.0, 1000.0, 3000.0}) {
      const auto resampled = Resample(Sine(frequency, input, static_cast<size_t>(input)), input, output);
      const auto expected = Sine(frequency, output, resampled.size());
      // The first and last 50 ms hold the filter's answer to the sudden begin and end.
      const size_t edge = static_cast<size_t>(output / 20);
      const auto inner = [&](const std::vector<float>& x) { return std::span(x).subspan(edge, x.size() - 2 * edge); };
      EXPECT_LT(LargestDifference(inner(expected), inner(resampled)), 1e-5)
          << input << " -> " << output << " Hz, sine of " << frequency << " Hz";
    }
  }
}

TEST(ResamplerTest, WhatLiesAboveTheNewNyquistIsGone) {
  const auto resampled = Resample(Sine(9500, 44100, 44100), 44100, 16000);
  const auto inner = std::span(resampled).subspan(800, resampled.size() - 1600);
  double peak = 0;
  for (const float x : inner) peak = std::max(peak, std::abs(static_cast<double>(x)));
  EXPECT_LT(peak, 1e-4);
}

TEST(ResamplerTest, ChunksGiveWhatTheWholeGives) {
  const auto signal = TestSignal(30011, 1, 16000);
  for (const auto [input, output] : kRates) {
    const auto whole = Resample(signal, input, output);
    for (const size_t chunk : {size_t{1}, size_t{37}, size_t{160}, size_t{9999}}) {
      Resampler resampler(input, output);
      std::vector<float> chunked;
      for (size_t at = 0; at < signal.size(); at += chunk)
        resampler.Process(std::span(signal).subspan(at, std::min(chunk, signal.size() - at)), chunked);
      resampler.Flush(chunked);
      EXPECT_EQ(whole, chunked) << input << " -> " << output << " Hz in chunks of " << chunk << "; largest difference "
                                << LargestDifference(whole, chunked);
    }
  }
}

TEST(ResamplerTest, LengthIsRounded) {
  for (const auto [input, output] : kRates) {
    for (const size_t size : {0, 1, 2, 7, 100, 2303, 44100, 100001}) {
      const auto resampled = Resample(std::vector<float>(size, 0.1f), input, output);
      EXPECT_EQ(static_cast<long long>(resampled.size()), std::llround(static_cast<double>(size) * (output / input)))
          << size << " samples, " << input << " -> " << output << " Hz";
    }
  }
}

TEST(ResamplerTest, TheLastSampleIsNotLost) {
  // A click right at the end has to be there, at its place.
  std::vector<float> click(16000, 0.0f);
  click[15900] = 1;
  const auto resampled = Resample(click, 16000, 8000);
  const auto peak = std::max_element(resampled.begin(), resampled.end());
  EXPECT_EQ(peak - resampled.begin(), 7950);
  EXPECT_GT(*peak, 0.4f);
}

TEST(ResamplerTest, EqualRatesCopy) {
  const auto signal = TestSignal(1000, 1, 16000);
  EXPECT_EQ(Resample(signal, 16000, 16000), signal);
}

TEST(ResamplerTest, AppendsToWhatIsThere) {
  std::vector<float> out = {7, 8};
  Resampler resampler(8000, 16000);
  resampler.Process(std::vector<float>(100, 0.0f), out);
  resampler.Flush(out);
  ASSERT_EQ(out.size(), 202u);
  EXPECT_EQ(out[0], 7);
  EXPECT_EQ(out[1], 8);
}

TEST(ResamplerTest, BadRatesAndUseAfterTheEndThrow) {
  EXPECT_THROW(Resampler(0, 16000), Error);
  EXPECT_THROW(Resampler(16000, -1), Error);
  EXPECT_THROW(Resampler(16000, std::nan("")), Error);
  Resampler resampler(8000, 16000);
  std::vector<float> out;
  resampler.Flush(out);
  EXPECT_THROW(resampler.Process(std::vector<float>(1), out), LogicError);
  EXPECT_THROW(resampler.Flush(out), LogicError);
}

}  // namespace
}  // namespace earshot
