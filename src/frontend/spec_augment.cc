#include "src/frontend/spec_augment.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/base/error.h"

namespace earshot {

void SpecAugmentOptions::Visit(OptionVisitor& v) {
  v.Field("num_freq_masks", num_freq_masks);
  v.Field("freq_mask_bins", freq_mask_bins);
  v.Field("num_time_masks", num_time_masks);
  v.Field("time_mask_frames", time_mask_frames);
  v.Field("time_mask_share", time_mask_share);
  v.Field("time_warp_frames", time_warp_frames);
}

void SpecAugmentOptions::Validate() const {
  if (num_freq_masks < 0) Throw("spec_augment.num_freq_masks: {}, expected 0 or more", num_freq_masks);
  if (freq_mask_bins < 0) Throw("spec_augment.freq_mask_bins: {}, expected 0 or more", freq_mask_bins);
  if (num_time_masks < 0) Throw("spec_augment.num_time_masks: {}, expected 0 or more", num_time_masks);
  if (time_mask_frames < 0) Throw("spec_augment.time_mask_frames: {}, expected 0 or more", time_mask_frames);
  if (!(time_mask_share >= 0 && time_mask_share <= 1))
    Throw("spec_augment.time_mask_share: {}, expected 0 to 1", time_mask_share);
  if (time_warp_frames < 0) Throw("spec_augment.time_warp_frames: {}, expected 0 or more", time_warp_frames);
}

void TimeWarp(std::span<float> features, int64_t num_frames, int dim, int64_t center, int64_t target) {
  EARSHOT_CHECK(std::min(center, target) >= 1 && std::max(center, target) <= num_frames - 2,
                "warp {} to {} of {} frames", center, target, num_frames);
  if (center == target) return;
  const std::vector<float> source(features.begin(), features.end());
  const int64_t last = num_frames - 1;
  for (int64_t t = 0; t < num_frames; ++t) {
    // Where frame t comes from: two straight lines through (0, 0), (target, center) and (last, last).
    const double from = t <= target ? static_cast<double>(t * center) / static_cast<double>(target)
                                    : static_cast<double>(last) - static_cast<double>((last - t) * (last - center)) /
                                                                      static_cast<double>(last - target);
    const int64_t left = std::clamp<int64_t>(static_cast<int64_t>(from), 0, last - 1);
    const auto share = static_cast<float>(from - static_cast<double>(left));
    const float* a = source.data() + left * dim;
    const float* b = a + dim;
    float* to = features.data() + t * dim;
    for (int c = 0; c < dim; ++c) to[c] = a[c] + share * (b[c] - a[c]);
  }
}

void SpecAugment(std::span<float> features, int64_t num_frames, int dim, const SpecAugmentOptions& options,
                 Random& random) {
  EARSHOT_CHECK(static_cast<int64_t>(features.size()) == num_frames * dim, "{} values, not {} x {}", features.size(),
                num_frames, dim);
  if (num_frames == 0) return;
  const int64_t warp = options.time_warp_frames;
  if (warp > 0 && num_frames > 2 * (warp + 1)) {
    // The point lies so far from both ends that it cannot be pushed over one.
    const int64_t center = warp + 1 + random.Index(num_frames - 2 * (warp + 1));
    TimeWarp(features, num_frames, dim, center, center - warp + random.Index(2 * warp + 1));
  }
  for (int i = 0; i < options.num_freq_masks; ++i) {
    const int64_t width = random.Index(std::min(options.freq_mask_bins, dim) + 1);
    const int64_t first = random.Index(dim - width + 1);
    for (int64_t t = 0; t < num_frames; ++t) std::fill_n(features.data() + t * dim + first, width, 0.0f);
  }
  const auto most = std::min<int64_t>(options.time_mask_frames,
                                      static_cast<int64_t>(options.time_mask_share * static_cast<double>(num_frames)));
  for (int i = 0; i < options.num_time_masks; ++i) {
    const int64_t width = random.Index(most + 1);
    const int64_t first = random.Index(num_frames - width + 1);
    std::fill_n(features.data() + first * dim, width * dim, 0.0f);
  }
}

}  // namespace earshot
