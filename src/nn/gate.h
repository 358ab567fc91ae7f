// The adaptive half of hybrid attention: how much each encoder frame is worth hearing, g in (0, 1].
//
//   off      g = 1
//   energy   g = sigmoid(slope (e - threshold)), e the frame's mean normalised log-mel energy: no parameters
//   learned  g = sigmoid(w2 silu(w1 LayerNorm(x) + b1) + b2), trained with the task and a budget term;
//            with_energy adds slope (e - threshold) in the sigmoid, both learned as well
//
// log g is added to the attention scores of the frame's key; g scales what the mixing modules
// (attention, convolution) add to the frame. Thread-safe in evaluation.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "src/base/options.h"

namespace earshot {

enum class GateKind { kOff, kEnergy, kLearned };

struct GateOptions {
  GateKind kind = GateKind::kLearned;
  // Width of the learned gate's hidden layer.
  int hidden_dim = 32;
  // What the learned gate's output bias starts from: open, sigmoid(3) = 0.95. With energy it starts from 0.
  double initial_bias = 3.0;
  // The learned gate starts as the energy gate: in noise it is the loud frames that can still be heard.
  bool with_energy = false;
  // energy: where the gate is half open, in standard deviations of the normalised log-mel; and how steep it is.
  double energy_threshold = -0.8;
  double energy_slope = 4.0;
  // The least g: keeps log g finite.
  double floor = 1e-4;
  // Frames with a lower g are not attended to, and attend to nothing, in evaluation: what lies in pauses costs no
  // attention. 0: all are.
  double attention_threshold = 0;
  // Frames with a lower g hold no speech: they are recognised as blank, whatever the head says. 0: none is.
  double threshold = 0;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

class Gate : public torch::nn::Module {
 public:
  Gate(const GateOptions& options, int64_t dim);
  // x: (N, T', D) after subsampling; energy: (N, T') float. Returns g: (N, T') float, undefined when off.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& energy);
  GateKind kind() const { return options_.kind; }
  // PlanOptions::drop_below.
  double LeastAttended(bool training) const;
  bool HearsEnergy() const {
    return options_.kind == GateKind::kEnergy || (options_.kind == GateKind::kLearned && options_.with_energy);
  }

 private:
  GateOptions options_;
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::Linear hidden_{nullptr}, output_{nullptr};
  torch::Tensor energy_slope_, energy_threshold_;  // (1); undefined: without energy
};

}  // namespace earshot
