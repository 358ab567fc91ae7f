// What the audio tests share: a temporary folder, signals, and writers for every format.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace earshot {

class AudioTest : public ::testing::Test {
 protected:
  AudioTest();
  ~AudioTest() override;
  // A path in a folder of this test alone, which goes with it.
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};

// Voice-like: a gliding harmonic tone below 3 kHz under a slow envelope, peak about 0.5. Channel c is weighted by
// 1 / (c + 1), so that a mix of the wrong channels shows. Returns (frames, channels) interleaved.
std::vector<float> TestSignal(int64_t frames, int channels, int sample_rate);

// interleaved: (frames, channels) -> (frames), the mean in double.
std::vector<float> MeanOfChannels(std::span<const float> interleaved, int channels);

// By libsndfile; format as SF_INFO takes it.
void WriteSndfile(const std::string& path, int format, std::span<const float> interleaved, int channels,
                  int sample_rate);

// Runs a program without a shell, fails the test when it fails; returns its standard output.
std::string RunProgram(const std::vector<std::string>& argv);

std::string ReadBytes(const std::string& path);
void WriteBytes(const std::string& path, const std::string& bytes);

// 10 log10 of signal power over difference power, over the shorter length; 200 when there is no difference.
double SignalToNoiseDb(std::span<const float> expected, std::span<const float> actual);

double LargestDifference(std::span<const float> a, std::span<const float> b);

// What the call threw, as Error says it; fails the test when it threw nothing.
std::string ErrorOf(const std::function<void()>& call);

}  // namespace earshot
