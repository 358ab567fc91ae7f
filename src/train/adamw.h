// AdamW (Loshchilov & Hutter 2019) on flat parameters, and the moving average of the weights.
#pragma once

#include <string>

#include "src/base/options.h"
#include "src/model/safetensors.h"
#include "src/train/flat_parameters.h"

namespace earshot {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.98;
  double epsilon = 1e-8;
  // Of matrices and kernels; biases and norms do not decay.
  double weight_decay = 0.01;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

class AdamW {
 public:
  AdamW(const AdamWOptions& options, const FlatParameters& parameters);
  // One update of the parameters in place.
  void Step(const FlatParameters::Pair& gradients, double learning_rate);

  // For checkpoints, under names that begin with "adamw.".
  void Save(TensorMap& tensors) const;
  void Load(const TensorMap& tensors, const std::string& source);

 private:
  AdamWOptions options_;
  FlatParameters::Pair values_, mean_, square_;
  torch::Tensor steps_;  // () float
};

// average = decay average + (1 - decay) weights, after each step; the decay is smaller at the start, so that the first
// weights are soon forgotten: min(decay, (1 + step) / (10 + step)).
class WeightAverage {
 public:
  WeightAverage(double decay, const FlatParameters& parameters);
  void Step(int64_t step);
  const FlatParameters::Pair& values() const { return average_; }
  void Save(TensorMap& tensors) const;
  void Load(const TensorMap& tensors, const std::string& source);

 private:
  double decay_;
  FlatParameters::Pair values_, average_;
};

// Takes tensors[name] into target; throws Error that names source when it is missing or of another size.
void TakeTensor(const TensorMap& tensors, const std::string& name, const std::string& source, torch::Tensor& target);

}  // namespace earshot
