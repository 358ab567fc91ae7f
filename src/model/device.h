// Where a network runs.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace earshot {

// "cpu", "cuda", "cuda:1", or "auto": the GPU where there is one. The CUDA part of libtorch is loaded here, at
// run time, so one program serves machines with and without a GPU. Throws Error when a GPU is asked for and cannot be
// had, and says what was missing.
torch::Device ParseDevice(const std::string& name);

}  // namespace earshot
