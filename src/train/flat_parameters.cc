#include "src/train/flat_parameters.h"

#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

FlatParameters::FlatParameters(torch::nn::Module& network) {
  const torch::NoGradGuard no_grad;
  std::array<int64_t, 2> sizes = {0, 0};
  auto parameters = network.parameters();
  EARSHOT_CHECK(!parameters.empty(), "a network without parameters");
  for (const Tensor& p : parameters) {
    const size_t group = p.dim() > 1 ? 0 : 1;
    places_.push_back({group, sizes[group], p.sizes().vec()});
    sizes[group] += p.numel();
  }
  for (size_t g = 0; g < 2; ++g)
    values_[g] = torch::zeros({sizes[g]}, parameters.front().options().requires_grad(false));
  for (size_t i = 0; i < parameters.size(); ++i) {
    Tensor view = View(values_, places_[i]);
    view.copy_(parameters[i]);
    parameters[i].set_data(view);
  }
}

Tensor FlatParameters::View(const Pair& pair, const Place& place) const {
  int64_t size = 1;
  for (const int64_t s : place.shape) size *= s;
  return pair[place.group].narrow(0, place.offset, size).view(place.shape);
}

void FlatParameters::Share(torch::nn::Module& replica) const {
  auto parameters = replica.parameters();
  EARSHOT_CHECK(parameters.size() == places_.size(), "{} parameters, expected {}", parameters.size(), places_.size());
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].set_data(View(values_, places_[i]));
}

void FlatParameters::AttachGradients(torch::nn::Module& network, const Pair& gradients) const {
  auto parameters = network.parameters();
  EARSHOT_CHECK(parameters.size() == places_.size(), "{} parameters, expected {}", parameters.size(), places_.size());
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = View(gradients, places_[i]);
}

FlatParameters::Pair FlatParameters::ZerosLike() const {
  return {torch::zeros_like(values_[0]), torch::zeros_like(values_[1])};
}

}  // namespace earshot
