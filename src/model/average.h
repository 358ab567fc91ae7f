// The mean of several models' weights (checkpoint averaging, Vaswani et al. 2017, section 6.1).
#pragma once

#include <string>
#include <vector>

#include "src/model/safetensors.h"

namespace earshot {

// All must have the same names, shapes and types; sources name them in errors. Whole numbers must be equal in all.
// Sums in double.
TensorMap AverageWeights(const std::vector<TensorMap>& weights, const std::vector<std::string>& sources);

}  // namespace earshot
