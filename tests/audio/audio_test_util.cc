#include "tests/audio/audio_test_util.h"

#include <sndfile.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numbers>

#include "src/audio/child_process.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {

AudioTest::AudioTest() {
  std::string pattern = (std::filesystem::temp_directory_path() / "earshot-audio-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
  folder_ = pattern;
}

AudioTest::~AudioTest() {
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

std::vector<float> TestSignal(int64_t frames, int channels, int sample_rate) {
  std::vector<float> signal;
  signal.reserve(static_cast<size_t>(frames * channels));
  for (int64_t i = 0; i < frames; ++i) {
    const double t = static_cast<double>(i) / sample_rate;
    const double phase = 2 * std::numbers::pi * (140 * t + 6 * std::sin(2 * t));
    double value = 0;
    for (int harmonic = 1; harmonic <= 12; ++harmonic) value += std::sin(harmonic * phase) / (harmonic + 1.0);
    value *= 0.25 * (1 + 0.8 * std::sin(9 * t));
    for (int c = 0; c < channels; ++c) signal.push_back(static_cast<float>(value / (c + 1)));
  }
  return signal;
}

std::vector<float> MeanOfChannels(std::span<const float> interleaved, int channels) {
  std::vector<float> mono;
  for (size_t i = 0; i < interleaved.size(); i += static_cast<size_t>(channels)) {
    double sum = 0;
    for (int c = 0; c < channels; ++c) sum += interleaved[i + static_cast<size_t>(c)];
    mono.push_back(static_cast<float>(sum / channels));
  }
  return mono;
}

void WriteSndfile(const std::string& path, int format, std::span<const float> interleaved, int channels,
                  int sample_rate) {
  SF_INFO info{};
  info.format = format;
  info.channels = channels;
  info.samplerate = sample_rate;
  SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
  ASSERT_NE(file, nullptr) << path << ": " << sf_strerror(nullptr);
  // Vorbis overflows the stack of libsndfile 1.2.0 when one call brings many frames.
  const int64_t frames = static_cast<int64_t>(interleaved.size()) / channels;
  for (int64_t at = 0; at < frames; at += 4096) {
    const int64_t n = std::min<int64_t>(4096, frames - at);
    ASSERT_EQ(sf_writef_float(file, interleaved.data() + at * channels, n), n) << path << ": " << sf_strerror(file);
  }
  ASSERT_EQ(sf_close(file), 0);
}

std::string RunProgram(const std::vector<std::string>& argv) {
  ChildProcess child(argv);
  std::string output = child.ReadOutput();
  EXPECT_TRUE(child.Wait()) << argv[0] << ": " << child.LastWords();
  return output;
}

std::string ReadBytes(const std::string& path) { return ReadFile(path); }

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

double SignalToNoiseDb(std::span<const float> expected, std::span<const float> actual) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < std::min(expected.size(), actual.size()); ++i) {
    signal += static_cast<double>(expected[i]) * expected[i];
    const double difference = static_cast<double>(expected[i]) - actual[i];
    noise += difference * difference;
  }
  return noise == 0 ? 200 : 10 * std::log10(signal / noise);
}

double LargestDifference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  return largest;
}

std::string ErrorOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

}  // namespace earshot
