// safetensors: named tensors in one file, nothing in it that could be run.
//
//   SaveSafetensors("model.safetensors", tensors, {{"format", "earshot"}});
//   SafetensorsFile file = LoadSafetensors("model.safetensors");
//
// The format: 8 bytes little-endian length of a JSON header, the header, the data. Reading checks all of it: the
// length against the file, every name once, types and shapes known and within bounds, offsets contiguous without gap
// or overlap, data exactly to the file's end. Each failure throws Error with file, tensor, found and expected.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>

namespace earshot {

using TensorMap = std::map<std::string, torch::Tensor>;

struct SafetensorsFile {
  // On the CPU, contiguous, owning their memory.
  TensorMap tensors;
  std::map<std::string, std::string> metadata;
};

SafetensorsFile LoadSafetensors(const std::string& path);

// Written atomically. Tensors of any device and layout; types: float64/32/16, bfloat16, int64/32/16/8, uint8, bool.
void SaveSafetensors(const std::string& path, const TensorMap& tensors,
                     const std::map<std::string, std::string>& metadata = {});

}  // namespace earshot
