#include "src/decode/endpoint.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"

namespace earshot {

void EndpointRule::Visit(OptionVisitor& v) {
  v.Field("must_contain_speech", must_contain_speech);
  v.Field("min_trailing_silence_s", min_trailing_silence_s);
  v.Field("min_utterance_s", min_utterance_s);
}

void EndpointOptions::Visit(OptionVisitor& v) {
  v.Field("enabled", enabled);
  v.Group("silence", silence);
  v.Group("pause", pause);
  v.Group("longest", longest);
}

void EndpointOptions::Validate() const {
  for (const auto& [key, rule] : {std::pair{"silence", &silence}, {"pause", &pause}, {"longest", &longest}}) {
    if (!(rule->min_trailing_silence_s >= 0))
      Throw("endpoint.{}.min_trailing_silence_s is {}, expected 0 or more", key, rule->min_trailing_silence_s);
    if (!(rule->min_utterance_s >= 0))
      Throw("endpoint.{}.min_utterance_s is {}, expected 0 or more", key, rule->min_utterance_s);
    if (rule->min_trailing_silence_s == 0 && rule->min_utterance_s == 0)
      Throw("endpoint.{} asks for nothing, so every frame would be an endpoint", key);
  }
}

EndpointDetector::EndpointDetector(const EndpointOptions& options, double encoder_frame_s)
    : options_(options), frame_s_(encoder_frame_s) {
  options_.Validate();
}

bool EndpointDetector::Accept(const Heard& heard) {
  frames_ += heard.frames;
  if (!options_.enabled) return false;
  const double utterance_s = static_cast<double>(frames_) * frame_s_;
  const double silence_s = static_cast<double>(std::min(heard.silent_frames, frames_)) * frame_s_;
  const auto holds = [&](const EndpointRule& rule) {
    return (heard.spoke || !rule.must_contain_speech) && silence_s >= rule.min_trailing_silence_s &&
           utterance_s >= rule.min_utterance_s;
  };
  return holds(options_.silence) || holds(options_.pause) || holds(options_.longest);
}

}  // namespace earshot
