// Where speech is, out of the gate of hybrid attention: voice activity detection that costs nothing more.
//
//   SpeechSegmenter segmenter({}, 0.04);
//   segmenter.Accept(gate);                                       // (t') in (0, 1], the next encoder frames
//   std::vector<SpeechSegment> done = segmenter.Take(false);      // those that are over; at the end Take(true)
//
// State is constant. Not thread-safe: one for each stream.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/options.h"

namespace earshot {

struct SpeechSegment {
  double start_s = 0;
  double end_s = 0;
};

struct SpeechOptions {
  // Speech begins where the gate is this or more, and ends where it stays below the second, so that it does not
  // flicker.
  double begin_threshold = 0.5;
  double end_threshold = 0.35;
  // Seconds: a shorter silence ends nothing, a shorter speech is none.
  double min_silence_s = 0.3;
  double min_speech_s = 0.1;
  // Seconds that are added on both sides, as far as they are free.
  double margin_s = 0.05;
  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

class SpeechSegmenter {
 public:
  SpeechSegmenter(const SpeechOptions& options, double encoder_frame_s);
  void Accept(std::span<const float> gate);
  // Each segment once, in order; final: the recording ends here.
  std::vector<SpeechSegment> Take(bool final);

 private:
  void End(int64_t frame);

  SpeechOptions options_;
  double frame_s_;
  int64_t frame_ = 0;   // the next
  int64_t begin_ = -1;  // of the speech that goes on; -1: silence
  int64_t last_ = 0;    // the frame behind the last that was speech
  double free_from_s_ = 0;
  std::vector<SpeechSegment> segments_;
};

}  // namespace earshot
