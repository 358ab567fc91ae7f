// Frames (N, t, ...) of a stream that stay for many steps: the newest are written behind the others, the oldest left
// where they are until the room is needed, so that a step copies its own frames and no others.
//
//   buffer.Append(keys);                 // (N, t, H, d)
//   Attend(buffer.Frames());             // a view, until the next Append
//   buffer.DropFront(8);
//
// Frames that take part in a gradient are copied each time instead: what was seen of them stays as it was.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace earshot {

class FrameBuffer {
 public:
  FrameBuffer() = default;
  FrameBuffer(FrameBuffer&&) = default;
  FrameBuffer& operator=(FrameBuffer&&) = default;

  bool defined() const { return data_.defined(); }
  int64_t size() const { return size_; }
  // (N, t, ...); undefined before the first Append.
  torch::Tensor Frames() const { return data_.defined() ? data_.narrow(1, first_, size_) : data_; }

  void Append(const torch::Tensor& frames);
  void DropFront(int64_t count);
  void DropBack(int64_t count) { size_ -= count; }
  // Keeps these, counted from the oldest.
  void Select(const torch::Tensor& index);

 private:
  // The same frames where there is room for so many, and more.
  void Move(int64_t frames);

  torch::Tensor data_;  // (N, room, ...)
  int64_t first_ = 0, size_ = 0;
};

}  // namespace earshot
