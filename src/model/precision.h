// In which type a network computes on the CPU, as a user names it.
#pragma once

#include <c10/core/Device.h>

#include <optional>
#include <string>

#include "src/nn/linear.h"

namespace earshot {

// "auto", "float", "bfloat16" or "int8", for AsrModel::Prepack. auto: bfloat16 where the CPU has instructions for it,
// which was measured 1.6 to 6 times as fast as float there, at the same word error rate; else float. int8 is for who
// asks for it. On a GPU there is nothing to lay out: auto and float give none. Throws Error for an unknown name, and
// for what is asked for and cannot be had, with what can.
std::optional<InferencePrecision> ParsePrecision(const std::string& name, torch::Device device);

}  // namespace earshot
