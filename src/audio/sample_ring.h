// Samples from a thread that must not wait (an audio driver's) to one that may.
//
//   SampleRing ring(10 * 48000);
//   ring.Push(interleaved, channels);       // the writer: no lock, no memory from the heap
//   size_t n = ring.Pop(mono, timeout_ms);  // the reader
//
// One writer and one reader. When it is full, what comes is counted as lost: the audio before a gap stays whole.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <semaphore>
#include <span>
#include <vector>

#include "src/audio/live_source.h"

namespace earshot {

class SampleRing {
 public:
  // size: samples that may wait; 0: none, for a ring that is sized later.
  explicit SampleRing(size_t size = 0) : samples_(size) {}
  // Before either side has begun.
  void Resize(size_t size) { samples_.assign(size, 0.0f); }

  // The writer's. interleaved: (frames, channels); each frame becomes the mean of its channels, what is not finite 0.
  void Push(std::span<const float> interleaved, int channels);
  // A gap of unknown length that was noticed elsewhere.
  void CountGap() { gaps_.fetch_add(1, std::memory_order_relaxed); }
  // Wakes the reader, although nothing came.
  void Wake() { ready_.release(); }

  // The reader's: waits up to timeout_ms for a sample, or for Wake, and returns how many were written into mono.
  size_t Pop(std::span<float> mono, int timeout_ms);

  bool empty() const { return written_.load(std::memory_order_acquire) == read_.load(std::memory_order_acquire); }
  LostAudio lost() const { return {.times = gaps_, .frames = lost_frames_}; }

 private:
  size_t Take(std::span<float> mono);

  std::vector<float> samples_;
  // Samples so far; they only grow, and the index is the count modulo the size.
  std::atomic<uint64_t> written_{0}, read_{0};
  std::atomic<int64_t> gaps_{0}, lost_frames_{0};
  bool in_gap_ = false;  // the writer's
  std::counting_semaphore<> ready_{0};
};

}  // namespace earshot
