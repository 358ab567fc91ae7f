// SpecAugment (Park et al. 2019, 2020): bends the time axis of features and masks bands and stretches of them.
//
//   SpecAugmentOptions options;
//   Random random = Random::For({seed, epoch, utterance});
//   SpecAugment(features, num_frames, 80, options, random);   // in place, after CMVN
#pragma once

#include <cstdint>
#include <span>

#include "src/base/options.h"
#include "src/base/random.h"

namespace earshot {

struct SpecAugmentOptions {
  // Bands that are masked; each 0 ... freq_mask_bins wide.
  int num_freq_masks = 2;
  int freq_mask_bins = 27;
  // Stretches that are masked; each 0 ... time_mask_frames long.
  int num_time_masks = 10;
  int time_mask_frames = 50;
  // The most that one stretch takes of an utterance, so that short ones stay readable. 1: no limit.
  double time_mask_share = 0.05;
  // A point of the utterance moves by up to so many frames, those before and after are stretched to fit. 0: none.
  int time_warp_frames = 0;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// features: (num_frames, dim), in place; they are normalised, so that the mask's 0 is the mean. All draws come from
// random: the same state gives the same result.
void SpecAugment(std::span<float> features, int64_t num_frames, int dim, const SpecAugmentOptions& options,
                 Random& random);

// Moves frame `center` to `target` (both in 1 ... num_frames - 2), by linear interpolation; first and last stay.
void TimeWarp(std::span<float> features, int64_t num_frames, int dim, int64_t center, int64_t target);

}  // namespace earshot
