// Features of a stream, as its samples come in.
//
//   OnlineFeatures features(MakeFeatureExtractor(options));
//   features.AcceptWaveform(chunk);                    // any number of samples
//   for (; next < features.NumFramesReady(); ++next) Use(features.GetFrame(next));
//   features.DiscardBefore(next);                      // indices stay what they were
//   features.InputFinished();                          // the last frames, which stick out at the end
//
// Frames are the same to the bit as FeatureExtractor::Compute of the whole, for any split of the input. Memory
// stays bounded when frames are discarded. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/frontend/feature_extractor.h"

namespace earshot {

class OnlineFeatures {
 public:
  explicit OnlineFeatures(std::shared_ptr<const FeatureExtractor> extractor);

  // samples: in [-1, 1], at extractor().sample_rate(). Not after InputFinished.
  void AcceptWaveform(std::span<const float> samples);
  // No samples follow: what can still be computed is ready now. A second call does nothing.
  void InputFinished();

  // One more than the index of the last frame that is ready, whatever was discarded.
  int64_t NumFramesReady() const { return num_ready_; }
  // (C), valid until the next call that is not const. The frame must be ready and not discarded.
  std::span<const float> GetFrame(int64_t index) const;
  // Frames begin ... end - 1 in a row, (end - begin, C), as GetFrame.
  std::span<const float> GetFrames(int64_t begin, int64_t end) const;
  // Forgets the frames before index, which must be at most NumFramesReady().
  void DiscardBefore(int64_t index);

  bool finished() const { return finished_; }
  // Samples accepted so far.
  int64_t num_samples() const { return num_samples_; }
  const FeatureExtractor& extractor() const { return *extractor_; }

 private:
  void ComputeReady();

  std::shared_ptr<const FeatureExtractor> extractor_;
  std::vector<float> samples_;  // those that frames to come still need, and
  int64_t first_sample_ = 0;    // the index of the first of them
  int64_t num_samples_ = 0;
  std::vector<float> frames_;  // (num_ready_ - first_frame_, C)
  int64_t first_frame_ = 0;
  int64_t num_ready_ = 0;
  bool finished_ = false;
};

}  // namespace earshot
