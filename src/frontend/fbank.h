// Log mel filter bank features by Kaldi's definition: frames, DC removal, pre-emphasis, window, power
// spectrum, triangular mel filters, natural log.
//
//   Fbank fbank({.num_mel_bins = 80});
//   std::vector<float> features = fbank.Compute(samples);  // samples in [-1, 1] -> (T, 80), row after row
//
// Immutable and thread-safe. The arithmetic is in frame_kernel.h, chosen for the CPU.
//
// NeMo's log-mel is the same chain with other options, followed by NormalizePerFeature of cmvn.h:
//   {.low_freq = 0, .sample_scale = 1, .preemphasis_scope = PreemphasisScope::kStream, .window = "hann",
//    .remove_dc_offset = false, .center_frames = true, .mel_scale = MelScale::kSlaney, .log_offset = 0x1p-24f}
#pragma once

#include "src/frontend/frame_pipeline.h"

namespace earshot {

class Fbank : public FramePipeline {
 public:
  // Throws Error when the options do not hold together.
  explicit Fbank(const FbankOptions& options) : FramePipeline(options, {}) {}
};

}  // namespace earshot
