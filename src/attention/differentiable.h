// What the operator's functions for autograd share: whether a gradient is wanted, and how inputs that may be missing
// are handed over.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <optional>
#include <utility>

#include "src/attention/hybrid_attention.h"

namespace earshot {

// What the backward pass needs beside the saved tensors.
struct SavedPlan : torch::CustomClassHolder {
  SavedPlan(AttentionPlan plan, const AttentionInputs& in)
      : plan(std::move(plan)), lens(in.lens), selection(in.selection) {}
  AttentionPlan plan;
  torch::Tensor lens, selection;
};

inline bool WantsGradient(const AttentionInputs& in) {
  const auto wants = [](const torch::Tensor& x) { return x.defined() && x.requires_grad(); };
  return torch::GradMode::is_enabled() &&
         (wants(in.q) || wants(in.k) || wants(in.v) || wants(in.bias) || wants(in.selection_score));
}

// Autograd takes no undefined tensors for inputs.
inline std::optional<torch::Tensor> IfDefined(const torch::Tensor& x) {
  return x.defined() ? std::optional<torch::Tensor>(x) : std::nullopt;
}

// 1 / sqrt(d).
inline double AttentionScale(const torch::Tensor& q) { return 1.0 / std::sqrt(static_cast<double>(q.size(3))); }

}  // namespace earshot
