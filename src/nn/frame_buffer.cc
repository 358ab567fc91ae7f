#include "src/nn/frame_buffer.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace earshot {

using torch::Tensor;

namespace {

// From this many frames on, a first step is kept as it came: it is a recording rather than a stream.
constexpr int64_t kLongStep = 1024;
// Room is made for half as many frames again as there are, and for no fewer than these.
constexpr int64_t kLeastRoom = 32;

// Room for so many frames, and more, of the kind of `like`.
Tensor RoomFor(int64_t frames, const Tensor& like) {
  std::vector<int64_t> shape = like.sizes().vec();
  shape[1] = frames + std::max(frames / 2, kLeastRoom);
  return torch::empty(shape, like.options());
}

}  // namespace

void FrameBuffer::Append(const Tensor& frames) {
  const int64_t count = frames.size(1);
  const bool first = !data_.defined();
  if (first && count >= kLongStep) {
    data_ = frames;
    size_ = count;
    return;
  }
  if (frames.requires_grad() || (!first && data_.requires_grad())) {
    data_ = first ? frames : torch::cat({Frames(), frames}, 1);
    first_ = 0;
    size_ += count;
    return;
  }
  // Written in place whatever the mode in which a tensor was made.
  const c10::InferenceMode inference;
  const int64_t all = size_ + count;
  if (first) {
    data_ = RoomFor(all, frames);
  } else if (first_ + all > data_.size(1)) {
    Move(all);
  }
  data_.narrow(1, first_ + size_, count).copy_(frames);
  size_ = all;
}

void FrameBuffer::DropFront(int64_t count) {
  first_ += count;
  size_ -= count;
  // What a long step has left behind is not kept alive by its last frames.
  if (data_.size(1) > 4 * std::max(size_, kLeastRoom) && !data_.requires_grad()) {
    const c10::InferenceMode inference;
    Move(size_);
  }
}

void FrameBuffer::Select(const Tensor& index) {
  data_ = Frames().index_select(1, index);
  first_ = 0;
  size_ = data_.size(1);
}

void FrameBuffer::Move(int64_t frames) {
  const Tensor moved = RoomFor(frames, data_);
  moved.narrow(1, 0, size_).copy_(Frames());
  data_ = moved;
  first_ = 0;
}

}  // namespace earshot
