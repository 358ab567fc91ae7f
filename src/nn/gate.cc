#include "src/nn/gate.h"

#include <cmath>
#include <limits>
#include <utility>

#include "src/base/error.h"

namespace earshot {

void GateOptions::Visit(OptionVisitor& v) {
  v.Enum("kind", kind, {{"off", GateKind::kOff}, {"energy", GateKind::kEnergy}, {"learned", GateKind::kLearned}});
  v.Field("hidden_dim", hidden_dim);
  v.Field("initial_bias", initial_bias);
  v.Field("with_energy", with_energy);
  v.Field("energy_threshold", energy_threshold);
  v.Field("energy_slope", energy_slope);
  v.Field("floor", floor);
  v.Field("attention_threshold", attention_threshold);
  v.Field("threshold", threshold);
}

void GateOptions::Validate() const {
  if (hidden_dim < 1) Throw("encoder.gate.hidden_dim is {}, expected 1 or more", hidden_dim);
  if (!(floor > 0 && floor < 1)) Throw("encoder.gate.floor is {}, expected between 0 and 1", floor);
  for (const auto& [key, value] :
       {std::pair{"threshold", threshold}, std::pair{"attention_threshold", attention_threshold}}) {
    if (!(value >= 0 && value < 1)) Throw("encoder.gate.{} is {}, expected at least 0 and less than 1", key, value);
  }
}

Gate::Gate(const GateOptions& options, int64_t dim) : options_(options) {
  if (options_.kind != GateKind::kLearned) return;
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  hidden_ = register_module("hidden", torch::nn::Linear(dim, options_.hidden_dim));
  output_ = register_module("output", torch::nn::Linear(options_.hidden_dim, 1));
  const torch::NoGradGuard no_grad;
  output_->weight.mul_(0.1);
  output_->bias.fill_(options_.with_energy ? 0 : options_.initial_bias);
  if (!options_.with_energy) return;
  energy_slope_ = register_parameter("energy_slope", torch::full({1}, options_.energy_slope));
  energy_threshold_ = register_parameter("energy_threshold", torch::full({1}, options_.energy_threshold));
}

double Gate::LeastAttended(bool training) const {
  return training || options_.kind == GateKind::kOff ? -std::numeric_limits<double>::infinity()
                                                     : std::log(options_.attention_threshold);
}

torch::Tensor Gate::forward(const torch::Tensor& x, const torch::Tensor& energy) {
  switch (options_.kind) {
    case GateKind::kOff: return {};
    case GateKind::kEnergy:
      return torch::sigmoid(options_.energy_slope * (energy - options_.energy_threshold)).clamp_min(options_.floor);
    case GateKind::kLearned: {
      torch::Tensor logit = output_(torch::silu(hidden_(norm_(x)))).squeeze(-1).to(torch::kFloat);
      if (options_.with_energy) logit = logit + energy_slope_ * (energy - energy_threshold_);
      return torch::sigmoid(logit).clamp_min(options_.floor);
    }
  }
  return {};
}

}  // namespace earshot
