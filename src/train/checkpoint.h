// Checkpoints: everything that a run needs to go on to the bit.
//
//   exp/an4/checkpoints/step-00001200/{state.json, tensors.safetensors}
//
// A checkpoint is a folder that is written under another name, synced, and renamed: it is whole or not there.
// Randomness needs no state: every draw follows from the seed and the step (see trainer.h).
#pragma once

#include <map>
#include <optional>
#include <string>

#include "src/data/sampler.h"
#include "src/model/safetensors.h"

namespace earshot {

struct RunState {
  int64_t step = 0;
  int64_t skipped_steps = 0;
  SamplerState sampler;
  // Error rate on dev, by the name of the model folder, of the models that are kept.
  std::map<std::string, double> evaluated;
  // Seconds trained, over all resumed parts of the run.
  double seconds = 0;
};

struct Checkpoint {
  RunState state;
  TensorMap tensors;
  std::string path;
};

// Writes folder/step-NNNNNNNN and removes all but the newest `keep`.
void SaveCheckpoint(const std::string& folder, const RunState& state, const TensorMap& tensors, int keep);

// The newest whole checkpoint in the folder; nullopt when there is none. Throws Error when it is damaged.
std::optional<Checkpoint> LoadNewestCheckpoint(const std::string& folder);

}  // namespace earshot
