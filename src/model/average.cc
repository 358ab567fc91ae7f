#include "src/model/average.h"

#include "src/base/error.h"

namespace earshot {

TensorMap AverageWeights(const std::vector<TensorMap>& weights, const std::vector<std::string>& sources) {
  EARSHOT_CHECK(weights.size() == sources.size(), "{} weights of {} sources", weights.size(), sources.size());
  if (weights.empty()) Throw("average: no models were given");
  const TensorMap& first = weights.front();
  for (size_t i = 1; i < weights.size(); ++i) {
    for (const auto& [name, tensor] : first) {
      const auto other = weights[i].find(name);
      if (other == weights[i].end())
        Throw("{}: lacks the tensor '{}' of {}; only models of one kind can be averaged", sources[i], name, sources[0]);
      if (other->second.sizes() != tensor.sizes())
        Throw("{}: tensor '{}' has another shape than in {}", sources[i], name, sources[0]);
      if (!tensor.is_floating_point() && !other->second.equal(tensor))
        Throw("{}: tensor '{}' differs from that of {} and cannot be averaged", sources[i], name, sources[0]);
    }
    if (weights[i].size() != first.size())
      Throw("{}: has {} tensors, {} has {}", sources[i], weights[i].size(), sources[0], first.size());
  }
  TensorMap mean;
  for (const auto& [name, tensor] : first) {
    if (!tensor.is_floating_point()) {
      mean[name] = tensor;
      continue;
    }
    torch::Tensor sum = torch::zeros(tensor.sizes(), torch::kDouble);
    for (const TensorMap& w : weights) sum += w.at(name).to(torch::kCPU, torch::kDouble);
    mean[name] = (sum / static_cast<double>(weights.size())).to(tensor.scalar_type());
  }
  return mean;
}

}  // namespace earshot
