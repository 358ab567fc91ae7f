// Frames (N, t, ...) that wait in a stream, oldest first.
#pragma once

#include <torch/types.h>

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

}  // namespace earshot
