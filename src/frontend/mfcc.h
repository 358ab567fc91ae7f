// Mel frequency cepstral coefficients by Kaldi's definition: the log mel energies of fbank.h, an orthonormal
// DCT-II, and a lifter.
//
//   FbankOptions fbank{.num_mel_bins = 23};
//   Mfcc mfcc(fbank, {.num_ceps = 13});
//   std::vector<float> features = mfcc.Compute(samples);  // (T, 13), row after row
//
// Immutable and thread-safe.
#pragma once

#include "src/frontend/frame_pipeline.h"

namespace earshot {

class Mfcc : public FramePipeline {
 public:
  // Throws Error when the options do not hold together.
  Mfcc(const FbankOptions& fbank, const MfccOptions& mfcc);
};

}  // namespace earshot
