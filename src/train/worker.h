// One share of a training step: forward, losses, backward, on a replica of the network.
//
//   WorkerPool pool(model, flat, {.num_workers = 2, ...});
//   StepLosses losses = pool.Run(examples, {.seed = hash, ...});   // gradients are in pool.gradients()
//
// On a CPU several workers train side by side, each with one replica, one gradient buffer and its share of the cores:
// for networks of a few million parameters that is faster than threads within each operation. The sum of their
// gradients is taken in a fixed order, so a run repeats to the bit for the same number of workers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/data/loader.h"
#include "src/frontend/spec_augment.h"
#include "src/model/asr_model.h"
#include "src/train/flat_parameters.h"
#include "src/train/losses.h"

namespace earshot {

struct WorkerOptions {
  int num_workers = 1;
  bool bfloat16 = false;
  LossOptions loss;
  SpecAugmentOptions spec_augment;
};

struct StepLosses {
  // Sums over utterances.
  double total = 0, ctc = 0, intermediate = 0, consistency = 0, distillation = 0, frame = 0, gate = 0, gate_speech = 0;
  int64_t utterances = 0;
  // Utterances whose CTC loss was not a number, by id.
  std::vector<std::string> not_finite;
  StepLosses& operator+=(const StepLosses& other);
};

class WorkerPool {
 public:
  // model: its network's parameters must be views of `flat`.
  WorkerPool(const AsrModel& model, const FlatParameters& flat, const WorkerOptions& options);

  // Adds the gradients of loss / normaliser of these examples to gradients(). seed: of all that is drawn in this step.
  // frame_weight: of the frame loss, at this point of the run.
  struct RunOptions {
    uint64_t seed = 0;
    double normaliser = 1;
    double frame_weight = 0;
  };
  StepLosses Run(const std::vector<const Example*>& examples, const RunOptions& options);

  // The sum over workers, after Run.
  FlatParameters::Pair& gradients() { return workers_.front().gradients; }
  void ZeroGradients();

 private:
  struct Worker {
    std::shared_ptr<CtcNetwork> network;
    FlatParameters::Pair gradients;
  };
  StepLosses RunShare(Worker& worker, const std::vector<const Example*>& examples, const RunOptions& options) const;

  const AsrModel& model_;
  WorkerOptions options_;
  std::vector<Worker> workers_;
};

}  // namespace earshot
