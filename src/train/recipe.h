// A recipe: one model and its training regime, as YAML.
//
//   model:     what the network is                 (ModelConfig)
//   tokenizer: how text becomes tokens             (TokenizerOptions)
//   data:      manifests, batches, augmentation    (DataOptions)
//   train:     optimiser, schedule, losses, length (TrainOptions)
//
// Several files may be given; later ones override earlier ones, so a corpus states only what differs.
#pragma once

#include <string>
#include <vector>

#include "src/data/example.h"
#include "src/data/loader.h"
#include "src/data/sampler.h"
#include "src/frontend/spec_augment.h"
#include "src/model/config.h"
#include "src/text/normalizer.h"
#include "src/text/tokenizer.h"
#include "src/train/adamw.h"
#include "src/train/losses.h"
#include "src/train/schedule.h"

namespace earshot {

struct DataOptions {
  // Manifests (see manifest.h). dev may be empty: then nothing is evaluated and the last epoch counts as the best.
  std::string train;
  std::string dev;
  // The split of each manifest to use. Empty: all of it.
  std::string train_split;
  std::string dev_split;
  NormalizeOptions normalize;
  SamplerOptions sampler;
  LoaderOptions loader;
  ExampleOptions augment;
  SpecAugmentOptions spec_augment;
  // Share of the training examples that are replaced by a few seconds of silence or noise without a word, so that the
  // model learns to say nothing. Noise is drawn from augment.wave.noise_list, or synthetic.
  double silence_probability = 0;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

enum class Precision { kAuto, kFloat, kBFloat16 };

struct TrainOptions {
  int64_t seed = 1;
  int epochs = 50;
  // Stops after so many optimiser steps, wherever that is in the schedule of the epochs. 0: at the end of the epochs.
  int64_t max_steps = 0;
  // Batches whose gradients are summed for one step.
  int accumulate = 1;
  // Threads that each train on a share of the batch with a replica of the network. On a CPU this is faster than
  // threads inside each operator when the network is small. 0: one for each core; on a GPU always 1.
  int workers = 0;
  // auto: bfloat16 on a GPU and on CPUs that compute it (AVX512-BF16), else float. The loss is always float.
  Precision precision = Precision::kAuto;
  // Gradients are scaled down to this norm. 0: never.
  double clip_norm = 5.0;
  // Of the moving average of the weights, which is what is evaluated and kept. 0: no average.
  double average_decay = 0.999;
  AdamWOptions optimizer;
  ScheduleOptions schedule;
  LossOptions loss;
  // Epochs between evaluations on dev; the last epoch is always evaluated.
  int evaluate_every = 1;
  // Dev is heard at these latencies as well (model.dynamic_chunk), as a stream would hear it; a model is then as good
  // as the mean of its error rates.
  std::vector<int> evaluate_latencies_ms;
  // Checkpoints that are kept for resuming, and epochs between them. A stopped run saves at once.
  int keep_checkpoints = 2;
  int save_every = 1;
  // The final model is the mean of the best so many evaluated models. 1: the best itself.
  int average_best = 1;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

struct Recipe {
  ModelConfig model;
  TokenizerOptions tokenizer;
  // Use this tokenizer instead of training one.
  std::string tokenizer_model;
  // Start from the weights of this model folder; the tokenizer is taken from it as well.
  std::string init_from;
  DataOptions data;
  TrainOptions train;
  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// files: each over the ones before it; sets: "a.b=value" on top of all.
Recipe LoadRecipe(const std::vector<std::string>& files, const std::vector<std::string>& sets);

// Throws Error where the network is not that of the recipe at `path`, with which the run began; says what else differs.
void RequireSameNetwork(const std::string& path, const Recipe& recipe);

}  // namespace earshot
