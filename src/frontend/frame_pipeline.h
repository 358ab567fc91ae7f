// What fbank and MFCC share: cuts a range of samples into frames and hands them to the frame kernel.
//
// Frames that lie in the range are read where they are; only those that stick out at the ends of the stream go
// through a copy. All frames pass through the same kernel, whose lanes do not see each other, so the values of a
// frame do not depend on how a stream was split.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "src/frontend/feature_extractor.h"
#include "src/frontend/frame_kernel.h"
#include "src/frontend/mel_filters.h"

namespace earshot {

// A matrix that is applied to the log mel energies, and the energy that may stand in place of the first value.
struct FrameTransform {
  // (dim, M), row after row. Empty: none.
  std::vector<float> matrix;
  bool use_energy = false;
  float energy_floor = 0;
};

class FramePipeline : public FeatureExtractor {
 public:
  FramePipeline(const FbankOptions& options, FrameTransform transform);

  int dim() const override { return dim_; }
  int sample_rate() const override { return options_.sample_rate; }
  const FrameLayout& layout() const override { return layout_; }
  void ComputeFrames(const SampleRange& range, int64_t first_frame, std::span<float> out,
                     float vtln_warp) const override;

 private:
  // The range with dither and pre-emphasis over the stream, where these are asked for.
  std::vector<float> Prepare(const SampleRange& range) const;

  FbankOptions options_;
  FrameTransform transform_;
  FrameLayout layout_;
  int fft_size_;
  int dim_;
  std::vector<float> window_;
  MelFilters mel_filters_;  // without a warp
  std::unique_ptr<const FrameKernel> kernel_;
};

}  // namespace earshot
