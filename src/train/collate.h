// Examples to tensors: normalised, masked by SpecAugment, padded.
#pragma once

#include <torch/types.h>

#include <span>
#include <vector>

#include "src/data/loader.h"
#include "src/frontend/cmvn.h"
#include "src/frontend/spec_augment.h"
#include "src/train/losses.h"

namespace earshot {

struct CollateOptions {
  int dim = 80;  // C
  // 2 for consistency-regularised CTC: the same examples twice, each view masked by draws of its own.
  int num_views = 1;
  // nullptr: nothing is masked.
  const SpecAugmentOptions* spec_augment = nullptr;
  const GlobalCmvn* cmvn = nullptr;
  // Frames of one encoder frame, and its seconds; used by frame labels.
  int subsampling = 4;
  double encoder_frame_s = 0.04;
  // Seed of the masks; each example adds its place in the batch.
  uint64_t seed = 0;
};

struct Collated {
  torch::Tensor features;  // (views * N, T, C) float, zeros behind the end
  torch::Tensor lens;      // (views * N) int64
  CtcTargets targets;      // of N
};

// Examples as pointers, so that workers take shares of one batch without copies.
Collated Collate(std::span<const Example* const> examples, const CollateOptions& options);

}  // namespace earshot
