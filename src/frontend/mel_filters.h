// Triangular filters over the power spectrum, equally spaced in mel.
//
//   MelFilters filters = MakeMelFilters(options, 512, 1.0f);
//   energy[m] = sum over i of filters.weights[filters.offsets[m] + i] * power[filters.first_bins[m] + i]
//
// A filter touches a short run of FFT bins, so only that run is kept.
#pragma once

#include <vector>

#include "src/frontend/feature_options.h"

namespace earshot {

struct MelFilters {
  // For each filter: its first FFT bin.
  std::vector<int> first_bins;
  // weights[offsets[m]] ... weights[offsets[m + 1] - 1] are those of filter m; one more entry than filters.
  std::vector<int> offsets;
  std::vector<float> weights;
};

// fft_size: of the real transform; the bins are 0 ... fft_size / 2 - 1, that of the Nyquist frequency is not read.
// vtln_warp: the piecewise linear warp of the frequency axis that Kaldi uses for vocal tract length
// normalisation (Wegmann et al. 1996, with both ends of the range held); 1: none.
// Throws Error when a filter is so narrow that no FFT bin lies in it, or the warp lies outside (0.5, 2).
MelFilters MakeMelFilters(const FbankOptions& options, int fft_size, float vtln_warp);

}  // namespace earshot
