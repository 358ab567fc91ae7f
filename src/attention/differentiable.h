// What the operator's functions for autograd share: whether a gradient is wanted, and how inputs that may be missing
// are handed over.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <optional>
#include <utility>

#include "src/attention/hybrid_attention.h"
#include "src/base/error.h"

namespace earshot {

// What the backward pass needs beside the saved tensors.
struct SavedPlan : torch::CustomClassHolder {
  SavedPlan(AttentionPlan plan, const AttentionInputs& in)
      : plan(std::move(plan)), lens(in.lens), selection(in.selection) {}
  AttentionPlan plan;
  torch::Tensor lens, selection;
};

inline bool WantsGradient(const torch::Tensor& x) { return x.defined() && x.requires_grad(); }
inline bool WantsGradient(const AttentionInputs& in) {
  return torch::GradMode::is_enabled() && (WantsGradient(in.q) || WantsGradient(in.k) || WantsGradient(in.v) ||
                                           WantsGradient(in.bias) || WantsGradient(in.selection_score));
}

// Autograd takes no undefined tensors for inputs.
inline std::optional<torch::Tensor> IfDefined(const torch::Tensor& x) {
  return x.defined() ? std::optional<torch::Tensor>(x) : std::nullopt;
}

// The kernels write through pointers: what autograd does not see has no second derivative.
inline void RefuseSecondDerivative() {
  EARSHOT_CHECK(!torch::GradMode::is_enabled(),
                "the kernels of attention have no gradients of gradients (create_graph); HybridAttentionGathered has");
}

// 1 / sqrt(d).
inline double AttentionScale(const torch::Tensor& q) { return 1.0 / std::sqrt(static_cast<double>(q.size(3))); }

}  // namespace earshot
