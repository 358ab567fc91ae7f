// When a speaker has finished: rules as data (after Kaldi's online decoder), fed with what was recognised.
//
//   EndpointDetector detector(options, 0.04);
//   if (detector.Accept({.frames = 8, .silent_frames = 20, .spoke = true})) {
//     Finish();
//     detector.Reset();
//   }
//
// Not thread-safe: one for each stream.
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/options.h"

namespace earshot {

// A rule holds when all that it asks for is there.
struct EndpointRule {
  // Words must have been heard since the last endpoint.
  bool must_contain_speech = false;
  // Seconds of silence at the end.
  double min_trailing_silence_s = 0;
  // Seconds since the last endpoint.
  double min_utterance_s = 0;
  void Visit(OptionVisitor& v);
};

struct EndpointOptions {
  // false: only the end of the input, or a commit, ends a segment.
  bool enabled = true;
  // Nobody speaks: the segment stays empty.
  EndpointRule silence{.min_trailing_silence_s = 5};
  // The pause behind a sentence.
  EndpointRule pause{.must_contain_speech = true, .min_trailing_silence_s = 0.8};
  // So that a text comes at last.
  EndpointRule longest{.must_contain_speech = true, .min_trailing_silence_s = 0.12, .min_utterance_s = 20};
  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

class EndpointDetector {
 public:
  EndpointDetector(const EndpointOptions& options, double encoder_frame_s);

  struct Heard {
    int64_t frames = 0;         // since the call before
    int64_t silent_frames = 0;  // at the end, as far back as silence reaches, over calls
    bool spoke = false;         // words have been heard since the last endpoint
  };
  // Whether an endpoint is reached.
  bool Accept(const Heard& heard);
  void Reset() { frames_ = 0; }

 private:
  EndpointOptions options_;
  double frame_s_;
  int64_t frames_ = 0;  // since the last endpoint
};

}  // namespace earshot
