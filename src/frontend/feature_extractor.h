// Waves to features, one interface for all kinds, so that a model does not care which it was trained on.
//
//   std::shared_ptr<const FeatureExtractor> extractor = MakeFeatureExtractor(FeatureOptions{});
//   std::vector<float> features = extractor->Compute(samples);   // (T, C), row after row
//   int64_t num_frames = extractor->NumFrames(samples.size());   // T
//
// An extractor is immutable and may be used by many threads at once. For a stream see online_features.h:
// it goes through the same ComputeFrames, so a frame is the same to the bit, offline or online.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/frontend/feature_options.h"
#include "src/frontend/frame_layout.h"

namespace earshot {

// A part of a stream of samples, in [-1, 1].
struct SampleRange {
  std::span<const float> samples;
  // Index in the stream of samples[0].
  int64_t first_sample = 0;
  // The whole stream's length; -1: it goes on after this range.
  int64_t num_samples = -1;
};

class FeatureExtractor {
 public:
  virtual ~FeatureExtractor() = default;

  // C, features of a frame.
  virtual int dim() const = 0;
  // Hz, of the samples that Compute takes.
  virtual int sample_rate() const = 0;
  virtual const FrameLayout& layout() const = 0;

  // Frames first_frame, first_frame + 1, ... into out: (T, C). The range holds every sample of the stream that
  // they read, that is from layout().FirstSampleNeeded(first_frame) on.
  // vtln_warp: factor of the vocal tract length warp of the mel filters; 1: none.
  virtual void ComputeFrames(const SampleRange& range, int64_t first_frame, std::span<float> out,
                             float vtln_warp) const = 0;

  // T of a finished stream of num_samples. 0 for an empty one.
  int64_t NumFrames(int64_t num_samples) const { return layout().NumFrames(num_samples); }
  // samples: (S). Returns (T, C), row after row.
  std::vector<float> Compute(std::span<const float> samples, float vtln_warp = 1.0f) const;
};

// Throws Error when the options do not hold together.
std::shared_ptr<const FeatureExtractor> MakeFeatureExtractor(const FeatureOptions& options);

}  // namespace earshot
