// Frames (N, t, ...) that wait in a stream, oldest first.
#pragma once

#include <torch/types.h>

#include <vector>

namespace earshot {

// past may be undefined.
inline torch::Tensor Append(const torch::Tensor& past, const torch::Tensor& fresh, int64_t axis = 1) {
  return past.defined() ? torch::cat({past, fresh}, axis) : fresh;
}

// Takes the first `count` frames out of `queue`. What stays is copied: a view would keep all of it alive.
inline torch::Tensor Take(torch::Tensor& queue, int64_t count) {
  const torch::Tensor taken = queue.narrow(1, 0, count);
  const int64_t left = queue.size(1) - count;
  queue = left == 0 ? torch::Tensor() : queue.narrow(1, count, left).clone();
  return taken.contiguous();
}

// Frames of several streams, (1, t, ...) each, one after the other: what is computed frame by frame is computed of all
// of them at once, and nothing is padded.
inline torch::Tensor Join(const std::vector<torch::Tensor>& parts, int64_t axis = 1) {
  return parts.size() == 1 ? parts.front() : torch::cat(parts, axis);
}
// The inverse. Undefined x: undefined parts.
inline std::vector<torch::Tensor> Split(const torch::Tensor& x, const std::vector<int64_t>& counts, int64_t axis = 1) {
  if (!x.defined()) return std::vector<torch::Tensor>(counts.size());
  return counts.size() == 1 ? std::vector<torch::Tensor>{x} : x.split_with_sizes(counts, axis);
}

}  // namespace earshot
