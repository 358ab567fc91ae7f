// Window functions of a frame, symmetric (the last weight equals the first), as Kaldi defines them.
#pragma once

#include <string>
#include <vector>

namespace earshot {

// name: povey, hann, hamming, blackman, sine, rectangular. length: 2 or more samples.
// Throws Error when the name is unknown.
std::vector<float> WindowFunction(const std::string& name, int length);

}  // namespace earshot
