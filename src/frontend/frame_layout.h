// Where frames lie in a stream of samples.
//
//   kSnip      frame t starts at t * shift; only frames that lie wholly in the stream
//   kReflect   frame t is centred on (t + 1/2) * shift; beyond the ends the samples are mirrored:
//              S / shift frames, rounded (Kaldi with snip_edges = false)
//   kCenter    frame t is centred on t * shift; beyond the ends there are zeros: S / shift + 1 frames
//              (librosa, torch.stft, NeMo)
//
// Indices of samples and of frames are absolute: they count from the start of the stream.
#pragma once

#include <cstdint>

namespace earshot {

enum class FrameEdges { kSnip, kReflect, kCenter };

struct FrameLayout {
  FrameEdges edges = FrameEdges::kReflect;
  // In samples.
  int64_t frame_length = 400;
  int64_t frame_shift = 160;
  // Samples before a frame that its first value depends on (pre-emphasis over the stream: 1).
  int64_t history = 0;

  // Frames of a finished stream.
  int64_t NumFrames(int64_t num_samples) const;
  // Frames of a stream that goes on: those that no later sample can change.
  int64_t NumFramesReady(int64_t num_samples) const;
  // A frame's first sample; negative where the frame sticks out at the start.
  int64_t FrameStart(int64_t frame) const;
  // The first sample that this frame or a later one reads. (What is mirrored at the end of a stream lies in the
  // frame itself, whose centre is never beyond the end.)
  int64_t FirstSampleNeeded(int64_t frame) const;
  // The sample that stands at index in a stream of num_samples (-1: it goes on); -1: none, a zero.
  int64_t SourceSample(int64_t index, int64_t num_samples) const;
};

}  // namespace earshot
