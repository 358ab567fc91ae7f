// Convolution of real signals by FFT (overlap-add), for impulse responses too long for a direct sum.
#pragma once

#include <span>
#include <vector>

namespace earshot {

// The full convolution, of a.size() + b.size() - 1 values; empty when either is. Fastest with the longer one first.
std::vector<float> Convolve(std::span<const float> a, std::span<const float> b);

}  // namespace earshot
