#include "src/frontend/feature_extractor.h"

#include "src/frontend/fbank.h"
#include "src/frontend/mfcc.h"

namespace earshot {

std::vector<float> FeatureExtractor::Compute(std::span<const float> samples, float vtln_warp) const {
  const auto num_samples = static_cast<int64_t>(samples.size());
  std::vector<float> features(static_cast<size_t>(NumFrames(num_samples) * dim()));
  ComputeFrames({.samples = samples, .first_sample = 0, .num_samples = num_samples}, 0, features, vtln_warp);
  return features;
}

std::shared_ptr<const FeatureExtractor> MakeFeatureExtractor(const FeatureOptions& options) {
  options.Validate();
  if (options.type == FeatureType::kMfcc) return std::make_shared<Mfcc>(options.fbank, options.mfcc);
  return std::make_shared<Fbank>(options.fbank);
}

}  // namespace earshot
