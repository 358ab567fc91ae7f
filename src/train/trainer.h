// Trains a recipe: data, model, steps, evaluations, checkpoints, all in one folder.
//
//   Trainer trainer(recipe, "exp/an4");
//   TrainResult result = trainer.Run();        // resumes by itself where the folder holds a checkpoint
//
//   exp/an4/recipe.yaml       the whole recipe as it was run
//   exp/an4/tokenizer.model   trained on the training texts
//   exp/an4/checkpoints/      optimiser, averages, sampler; see checkpoint.h
//   exp/an4/models/epoch-00012/ the moving average after an evaluation; the best few are kept
//   exp/an4/model/            the best, or the mean of the best: what transcribe, evaluate and ship take; of a run
//                             that was stopped, those so far
//   exp/an4/log.jsonl         one line an epoch: losses, rates, error rates, speed
//   exp/an4/tensorboard/      events
//   exp/an4/skipped.jsonl     utterances that could not be used, with the reason
//
// Every draw of a run (order, augmentation, dropout) follows from the seed and the step, not from a
// generator's history: 20 steps are the same as 10, a save, a load and 10 more, bit for bit.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "src/train/recipe.h"

namespace earshot {

struct TrainResult {
  int64_t steps = 0;
  // Stopped by a signal or max_steps, before the last epoch.
  bool stopped = false;
  // The folder of the model; empty when stopped before the first evaluation.
  std::string model_folder;
};

class Trainer {
 public:
  // Reads the manifests and the newest checkpoint. Throws Error for whatever of it cannot be used.
  Trainer(const Recipe& recipe, const std::string& folder, const std::string& device);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // stop: looked at after every step; when it is set, saves and returns. May be set by a signal handler.
  TrainResult Run(const std::atomic<bool>& stop);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace earshot
