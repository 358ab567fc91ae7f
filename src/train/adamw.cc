#include "src/train/adamw.h"

#include <ATen/ops/_fused_adamw.h>

#include <algorithm>

#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

void AdamWOptions::Visit(OptionVisitor& v) {
  v.Field("beta1", beta1);
  v.Field("beta2", beta2);
  v.Field("epsilon", epsilon);
  v.Field("weight_decay", weight_decay);
}

void AdamWOptions::Validate() const {
  if (!(beta1 >= 0 && beta1 < 1)) Throw("train.optimizer.beta1 is {}, expected at least 0 and below 1", beta1);
  if (!(beta2 >= 0 && beta2 < 1)) Throw("train.optimizer.beta2 is {}, expected at least 0 and below 1", beta2);
  if (!(epsilon > 0)) Throw("train.optimizer.epsilon is {}, expected more than 0", epsilon);
  if (!(weight_decay >= 0)) Throw("train.optimizer.weight_decay is {}, expected 0 or more", weight_decay);
}

void TakeTensor(const TensorMap& tensors, const std::string& name, const std::string& source, Tensor& target) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) Throw("{}: lacks '{}'; was it saved by another recipe?", source, name);
  if (found->second.sizes() != target.sizes())
    Throw("{}: '{}' has {} values, expected {}; was the recipe changed?", source, name, found->second.numel(),
          target.numel());
  target.copy_(found->second);
}

AdamW::AdamW(const AdamWOptions& options, const FlatParameters& parameters)
    : options_(options), values_(parameters.values()), mean_(parameters.ZerosLike()), square_(parameters.ZerosLike()) {
  steps_ = torch::zeros({}, values_[0].options().dtype(torch::kFloat));
}

void AdamW::Step(const FlatParameters::Pair& gradients, double learning_rate) {
  const torch::NoGradGuard no_grad;
  steps_ += 1;
  for (size_t g = 0; g < 2; ++g) {
    std::vector<Tensor> values = {values_[g]}, grads = {gradients[g]}, means = {mean_[g]}, squares = {square_[g]},
                        steps = {steps_};
    at::_fused_adamw_(values, grads, means, squares, {}, steps, learning_rate, options_.beta1, options_.beta2,
                      g == 0 ? options_.weight_decay : 0.0, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamW::Save(TensorMap& tensors) const {
  for (size_t g = 0; g < 2; ++g) {
    tensors["adamw.mean." + std::to_string(g)] = mean_[g];
    tensors["adamw.square." + std::to_string(g)] = square_[g];
  }
  tensors["adamw.steps"] = steps_;
}

void AdamW::Load(const TensorMap& tensors, const std::string& source) {
  for (size_t g = 0; g < 2; ++g) {
    TakeTensor(tensors, "adamw.mean." + std::to_string(g), source, mean_[g]);
    TakeTensor(tensors, "adamw.square." + std::to_string(g), source, square_[g]);
  }
  TakeTensor(tensors, "adamw.steps", source, steps_);
}

WeightAverage::WeightAverage(double decay, const FlatParameters& parameters)
    : decay_(decay), values_(parameters.values()) {
  for (size_t g = 0; g < 2; ++g) average_[g] = values_[g].clone();
}

void WeightAverage::Step(int64_t step) {
  const torch::NoGradGuard no_grad;
  const double decay = std::min(decay_, static_cast<double>(1 + step) / static_cast<double>(10 + step));
  for (size_t g = 0; g < 2; ++g) average_[g].lerp_(values_[g], 1 - decay);
}

void WeightAverage::Save(TensorMap& tensors) const {
  for (size_t g = 0; g < 2; ++g) tensors["average." + std::to_string(g)] = average_[g];
}

void WeightAverage::Load(const TensorMap& tensors, const std::string& source) {
  for (size_t g = 0; g < 2; ++g) TakeTensor(tensors, "average." + std::to_string(g), source, average_[g]);
}

}  // namespace earshot
