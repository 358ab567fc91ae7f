// This side of `tools/bench frontend`: the features of a wave, whole and as a stream.
//
//   frontend_bench WAVE fbank|mfcc [stream]   WAVE: float samples of 16 kHz; prints the CPU seconds of one pass
//   frontend_bench levels                     prints the SIMD levels of this machine that differ
//
// EARSHOT_SIMD chooses the level.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/simd_level.h"
#include "src/frontend/feature_extractor.h"
#include "src/frontend/frame_kernel.h"
#include "src/frontend/online_features.h"

namespace earshot {
namespace {

// The whole wave at once, into memory that is there already, as on the other side.
void Whole(const FeatureExtractor& extractor, std::span<const float> samples, std::vector<float>& features) {
  const auto num_samples = static_cast<int64_t>(samples.size());
  features.resize(static_cast<size_t>(extractor.NumFrames(num_samples) * extractor.dim()));
  extractor.ComputeFrames({.samples = samples, .first_sample = 0, .num_samples = num_samples}, 0, features, 1.0f);
}

// Pieces of 100 ms, each frame read once and discarded, as a recogniser does it.
void Stream(const std::shared_ptr<const FeatureExtractor>& extractor, std::span<const float> samples,
            std::vector<float>& features) {
  features.clear();
  OnlineFeatures online(extractor);
  int64_t next = 0;
  for (size_t first = 0; first < samples.size(); first += 1600) {
    online.AcceptWaveform(samples.subspan(first, std::min<size_t>(1600, samples.size() - first)));
    if (first + 1600 >= samples.size()) online.InputFinished();
    const auto frames = online.GetFrames(next, online.NumFramesReady());
    features.insert(features.end(), frames.begin(), frames.end());
    next = online.NumFramesReady();
    online.DiscardBefore(next);
  }
}

int Run(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "levels") == 0) {
    for (const SimdLevel level : SupportedSimdLevels(kHighestFrameLevel)) std::printf("%s\n", Name(level));
    return 0;
  }
  if (argc < 3) Throw("usage: frontend_bench WAVE fbank|mfcc [stream], or frontend_bench levels");
  const std::string bytes = ReadFile(argv[1]);
  std::vector<float> samples(bytes.size() / sizeof(float));
  std::memcpy(samples.data(), bytes.data(), samples.size() * sizeof(float));
  FeatureOptions options;
  if (std::strcmp(argv[2], "mfcc") == 0) {
    options.type = FeatureType::kMfcc;
    options.fbank.num_mel_bins = 23;
  }
  const bool stream = argc > 3 && std::strcmp(argv[3], "stream") == 0;
  std::vector<float> features;
  double seconds = 0;
  for (int pass = 0; pass < 2; ++pass) {  // the first warms up
    const std::clock_t start = std::clock();
    const auto extractor = MakeFeatureExtractor(options);
    if (stream) {
      Stream(extractor, samples, features);
    } else {
      Whole(*extractor, samples, features);
    }
    seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  }
  double sum = 0;
  for (const float x : features) sum += x;
  std::printf("%.6f %zu %.6f\n", seconds, features.size(), sum / static_cast<double>(features.size()));
  return 0;
}

}  // namespace
}  // namespace earshot

int main(int argc, char** argv) {
  try {
    return earshot::Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "frontend_bench: %s\n", error.what());
    return 1;
  }
}
