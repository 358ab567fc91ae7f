// The arithmetic of the front end: frames of samples to log mel energies, several frames at a time.
//
// Each lane of a vector register holds one frame, so that every step (mean, pre-emphasis, window, FFT, power,
// filters, log) is the same for all and nothing is shuffled but on the way in and out. KissFFT's template
// takes such a vector for a scalar. frame_kernel_lanes.h is the one source; frame_kernel_{baseline,avx2,
// avx512}.cc compile it for 4, 8 and 16 lanes.
//
// Those files are compiled with instructions that not every CPU has. Whatever template they share with other
// files could end up in the program in their form, so this interface is plain pointers and a virtual call.
#pragma once

#include <cstdint>

#include "src/base/simd_level.h"

namespace earshot {

// What happens to a frame. The arrays belong to the caller and outlive the kernel.
struct FrameKernelSpec {
  int frame_length = 0;           // L, samples
  int fft_size = 0;               // a power of two, at least L and 8
  const float* window = nullptr;  // (L), the scale of the samples in it
  float preemphasis = 0;          // within the frame
  bool remove_dc_offset = false;
  int num_mel_bins = 0;  // M
  float log_offset = 0;  // added to an energy before the log, and
  float log_floor = 0;   // the least that the log is taken of; a normal number
  // A matrix (dim, M) that is applied to the log mel energies; null: none, dim = M.
  const float* transform = nullptr;
  int dim = 0;  // C, values of a frame that come out
  // Put the log of (energy_scale x energy of the frame before pre-emphasis and window) in place of value 0.
  bool use_energy = false;
  float energy_scale = 1;
  float energy_floor = 0;  // at least 2^-23
};

// The filters of mel_filters.h.
struct MelFilterView {
  const int* first_bins = nullptr;  // (M)
  const int* offsets = nullptr;     // (M + 1)
  const float* weights = nullptr;
};

class FrameKernel {
 public:
  virtual ~FrameKernel();

  // Frame i is samples[i * shift] ... samples[i * shift + L - 1]. out: (num_frames, C). Thread-safe.
  virtual void Compute(const float* samples, int64_t shift, int64_t num_frames, const MelFilterView& mel,
                       float* out) const = 0;
};

// Higher levels run as this one.
inline constexpr SimdLevel kHighestFrameLevel = SimdLevel::kAvx512;

// One for each level up to it; the caller owns the result. A level must be supported here.
FrameKernel* MakeFrameKernel(SimdLevel level, const FrameKernelSpec& spec);

// The log that the kernel takes, of count values: its error is at most 2 units in the last place, or 1e-7 near 0
// (tested over the range of floats). Values are positive and not denormal. For tests.
void KernelLog(SimdLevel level, const float* x, int count, float* out);

}  // namespace earshot
