#include "src/frontend/frame_layout.h"

#include <algorithm>

#include "src/base/error.h"

namespace earshot {

int64_t FrameLayout::FrameStart(int64_t frame) const {
  switch (edges) {
    case FrameEdges::kSnip: return frame * frame_shift;
    case FrameEdges::kReflect: return frame * frame_shift + frame_shift / 2 - frame_length / 2;
    case FrameEdges::kCenter: return frame * frame_shift - frame_length / 2;
  }
  EARSHOT_CHECK(false, "edges {}", static_cast<int>(edges));
}

int64_t FrameLayout::NumFrames(int64_t num_samples) const {
  EARSHOT_CHECK(num_samples >= 0, "{} samples", num_samples);
  if (num_samples == 0) return 0;
  switch (edges) {
    case FrameEdges::kSnip: return num_samples < frame_length ? 0 : (num_samples - frame_length) / frame_shift + 1;
    case FrameEdges::kReflect: return (num_samples + frame_shift / 2) / frame_shift;
    case FrameEdges::kCenter: return num_samples / frame_shift + 1;
  }
  EARSHOT_CHECK(false, "edges {}", static_cast<int>(edges));
}

int64_t FrameLayout::NumFramesReady(int64_t num_samples) const {
  // Frame t is ready when FrameStart(t) + frame_length <= num_samples.
  const int64_t room = num_samples - frame_length - FrameStart(0);
  return room < 0 ? 0 : std::min(room / frame_shift + 1, NumFrames(num_samples));
}

int64_t FrameLayout::FirstSampleNeeded(int64_t frame) const {
  return std::max<int64_t>(0, FrameStart(frame) - history);
}

int64_t FrameLayout::SourceSample(int64_t index, int64_t num_samples) const {
  if (edges == FrameEdges::kCenter) return index >= 0 && (num_samples < 0 || index < num_samples) ? index : -1;
  // A wave shorter than half a frame is mirrored to and fro.
  while (index < 0 || (num_samples >= 0 && index >= num_samples))
    index = index < 0 ? -index - 1 : 2 * num_samples - 1 - index;
  return index;
}

}  // namespace earshot
