#include "src/frontend/mfcc.h"

#include <cmath>
#include <numbers>

namespace earshot {
namespace {

// Lifter times DCT: c[k] = (1 + L / 2 sin(pi k / L)) sqrt(2 / M) sum over m of cos(pi k (m + 1/2) / M) x[m],
// with sqrt(1 / M) for k = 0.
FrameTransform CepstralTransform(const FbankOptions& fbank, const MfccOptions& mfcc) {
  FeatureOptions{FeatureType::kMfcc, fbank, mfcc}.Validate();
  const int num_bins = fbank.num_mel_bins;
  const double lifter = mfcc.cepstral_lifter;
  FrameTransform transform{.matrix = {}, .use_energy = mfcc.use_energy, .energy_floor = mfcc.energy_floor};
  for (int k = 0; k < mfcc.num_ceps; ++k) {
    const double lift = lifter > 0 ? 1 + 0.5 * lifter * std::sin(std::numbers::pi * k / lifter) : 1;
    const double scale = lift * std::sqrt((k == 0 ? 1.0 : 2.0) / num_bins);
    for (int m = 0; m < num_bins; ++m)
      transform.matrix.push_back(static_cast<float>(scale * std::cos(std::numbers::pi * k * (m + 0.5) / num_bins)));
  }
  return transform;
}

}  // namespace

Mfcc::Mfcc(const FbankOptions& fbank, const MfccOptions& mfcc) : FramePipeline(fbank, CepstralTransform(fbank, mfcc)) {}

}  // namespace earshot
