// All parameters of a network in two flat tensors: those that decay (matrices, kernels) and those that do
// not (biases, norms). Gradient norm, clipping, the optimiser, the moving average and checkpoints then
// are a handful of operations on two tensors instead of hundreds on small ones.
//
//   FlatParameters flat(*network);              // the network's parameters become views
//   flat.AttachGradients(*network, grads);      // and their gradients views of these
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <array>
#include <vector>

namespace earshot {

class FlatParameters {
 public:
  // decay, no decay.
  using Pair = std::array<torch::Tensor, 2>;

  // Moves the parameters; the network must already be on its device. Keeps no reference to it.
  explicit FlatParameters(torch::nn::Module& network);

  // Makes the parameters of another network of the same shape views of these: a replica for a worker thread.
  void Share(torch::nn::Module& replica) const;
  // Makes the gradients of a network views of a pair that ZerosLike gave.
  void AttachGradients(torch::nn::Module& network, const Pair& gradients) const;

  const Pair& values() const { return values_; }
  // Fresh zeros of the same size.
  Pair ZerosLike() const;

 private:
  struct Place {
    size_t group;
    int64_t offset;
    std::vector<int64_t> shape;
  };
  torch::Tensor View(const Pair& pair, const Place& place) const;

  Pair values_;
  std::vector<Place> places_;  // in the order of parameters()
};

}  // namespace earshot
