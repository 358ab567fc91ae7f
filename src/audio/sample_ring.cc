#include "src/audio/sample_ring.h"

#include <algorithm>
#include <cmath>

namespace earshot {

void SampleRing::Push(std::span<const float> interleaved, int channels) {
  const size_t width = static_cast<size_t>(channels);
  const size_t frames = interleaved.size() / width;
  const uint64_t written = written_.load(std::memory_order_relaxed);
  const size_t room = samples_.size() - static_cast<size_t>(written - read_.load(std::memory_order_acquire));
  const size_t kept = std::min(frames, room);
  const float scale = 1.0f / static_cast<float>(channels);
  for (size_t i = 0; i < kept; ++i) {
    float sum = 0;
    for (size_t c = 0; c < width; ++c) sum += interleaved[i * width + c];
    samples_[static_cast<size_t>((written + i) % samples_.size())] = std::isfinite(sum) ? sum * scale : 0.0f;
  }
  written_.store(written + kept, std::memory_order_release);
  if (kept < frames) {
    if (!in_gap_) CountGap();
    lost_frames_.fetch_add(static_cast<int64_t>(frames - kept), std::memory_order_relaxed);
  }
  in_gap_ = kept < frames;
  Wake();
}

size_t SampleRing::Pop(std::span<float> mono, int timeout_ms) {
  // Wakes that came with samples which were read already would let the wait below end at once, again and again.
  while (ready_.try_acquire()) continue;
  if (const size_t taken = Take(mono); taken > 0 || mono.empty()) return taken;
  if (!ready_.try_acquire_for(std::chrono::milliseconds(timeout_ms))) return 0;
  return Take(mono);
}

size_t SampleRing::Take(std::span<float> mono) {
  const uint64_t read = read_.load(std::memory_order_relaxed);
  const size_t waiting = static_cast<size_t>(written_.load(std::memory_order_acquire) - read);
  const size_t taken = std::min(mono.size(), waiting);
  for (size_t i = 0; i < taken; ++i) mono[i] = samples_[static_cast<size_t>((read + i) % samples_.size())];
  read_.store(read + taken, std::memory_order_release);
  return taken;
}

}  // namespace earshot
