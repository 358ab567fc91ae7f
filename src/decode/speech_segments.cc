#include "src/decode/speech_segments.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"

namespace earshot {

void SpeechOptions::Visit(OptionVisitor& v) {
  v.Field("begin_threshold", begin_threshold);
  v.Field("end_threshold", end_threshold);
  v.Field("min_silence_s", min_silence_s);
  v.Field("min_speech_s", min_speech_s);
  v.Field("margin_s", margin_s);
}

void SpeechOptions::Validate() const {
  if (!(begin_threshold > 0 && begin_threshold <= 1))
    Throw("speech.begin_threshold is {}, expected more than 0 and at most 1", begin_threshold);
  if (!(end_threshold > 0 && end_threshold <= begin_threshold))
    Throw("speech.end_threshold is {}, expected more than 0 and at most begin_threshold ({})", end_threshold,
          begin_threshold);
  for (const auto& [key, value] :
       {std::pair{"min_silence_s", min_silence_s}, {"min_speech_s", min_speech_s}, {"margin_s", margin_s}}) {
    if (!(value >= 0)) Throw("speech.{} is {}, expected 0 or more", key, value);
  }
}

SpeechSegmenter::SpeechSegmenter(const SpeechOptions& options, double encoder_frame_s)
    : options_(options), frame_s_(encoder_frame_s) {
  options_.Validate();
}

void SpeechSegmenter::End(int64_t frame) {
  const double start_s = static_cast<double>(begin_) * frame_s_, end_s = static_cast<double>(frame) * frame_s_;
  begin_ = -1;
  if (end_s - start_s < options_.min_speech_s) return;
  // The silence behind is at least min_silence_s long, so half of it is free for each margin.
  const double margin_s = std::min(options_.margin_s, options_.min_silence_s / 2);
  segments_.push_back({std::max(free_from_s_, start_s - margin_s), end_s + margin_s});
  free_from_s_ = segments_.back().end_s;
}

void SpeechSegmenter::Accept(std::span<const float> gate) {
  for (const float g : gate) {
    if (g >= (begin_ < 0 ? options_.begin_threshold : options_.end_threshold)) {
      if (begin_ < 0) begin_ = frame_;
      last_ = frame_ + 1;
    } else if (begin_ >= 0 && static_cast<double>(frame_ + 1 - last_) * frame_s_ >= options_.min_silence_s) {
      End(last_);
    }
    ++frame_;
  }
}

std::vector<SpeechSegment> SpeechSegmenter::Take(bool final) {
  if (final && begin_ >= 0) End(last_);
  if (final && !segments_.empty())
    segments_.back().end_s = std::min(segments_.back().end_s, static_cast<double>(frame_) * frame_s_);
  return std::exchange(segments_, {});
}

}  // namespace earshot
