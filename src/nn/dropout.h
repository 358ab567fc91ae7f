// Dropout whose mask is a function of a seed and the element's index.
//
//   SeedDropout(seed);                       // of this thread, at the start of a training step
//   y = Dropout(x, 0.1, is_training());
//
// torch's own draws from one generator that all threads share, so two threads that train side by side would
// disturb each other and a resumed run would differ. Here the mask is hashed (the finaliser of MurmurHash3, Appleby
// 2011), on the CPU computed again in the backward pass instead of being kept. On a GPU torch's own is used.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace earshot {

// Of the calling thread.
void SeedDropout(uint64_t seed);

// A number in [0, 1) from the same stream of this thread, for stochastic depth.
double DropoutUniform();

// x with each element zeroed with this probability and the rest scaled by 1 / (1 - probability). Keeps x's type.
torch::Tensor Dropout(const torch::Tensor& x, double probability, bool training);

}  // namespace earshot
