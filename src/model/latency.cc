#include "src/model/latency.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/log.h"

namespace earshot {
namespace {

constexpr int kMostRightContext_ms = 480;

}  // namespace

void LatencyOptions::Visit(OptionVisitor& v) {
  v.Field("latency_ms", latency_ms);
  v.Field("right_context_ms", right_context_ms);
  v.Field("left_context_ms", left_context_ms);
}

void LatencyOptions::Validate() const {
  if (latency_ms < 0) Throw("latency_ms is {}, expected 0 (the model's own) or more", latency_ms);
  if (right_context_ms < -1)
    Throw("right_context_ms is {}, expected -1 (seven eighths of the latency) or more", right_context_ms);
  if (left_context_ms < 0)
    Throw("left_context_ms is {}, expected 0 (what the model was trained with) or more", left_context_ms);
  if (latency_ms > 0 && right_context_ms >= latency_ms)
    Throw("right_context_ms is {} of a latency of {}, expected less", right_context_ms, latency_ms);
}

Reach ReachForLatency(const AsrModel& model, const LatencyOptions& options) {
  options.Validate();
  const double frame_ms = 1000 * model.encoder_frame_s();
  if (options.latency_ms < frame_ms || options.latency_ms > 30000)
    Throw("a latency of {} ms; this model takes {:.0f} (one encoder frame) to 30000", options.latency_ms, frame_ms);
  const auto frames_of = [&](int ms) { return static_cast<int64_t>(ms / frame_ms + 1e-9); };
  const Encoder& encoder = model.network().encoder();
  const int64_t frames = frames_of(options.latency_ms);
  int64_t right = encoder.CanHaveRightContext() ? std::min(frames * 7 / 8, frames_of(kMostRightContext_ms)) : 0;
  if (options.right_context_ms >= 0) right = frames_of(options.right_context_ms);
  if (right == frames)
    Throw("a right context of {} ms leaves no encoder frame ({:.0f} ms) of a latency of {}", options.right_context_ms,
          frame_ms, options.latency_ms);
  const int64_t left = options.left_context_ms > 0 ? frames_of(options.left_context_ms)
                                                   : model.config().dynamic_chunk.StreamLeftFrames();
  return MakeReach(encoder.pattern(), {.chunk_frames = frames - right, .left_frames = left, .right_frames = right});
}

std::optional<Reach> ReachIfGiven(const AsrModel& model, const LatencyOptions& options) {
  if (options.latency_ms != 0) {
    if (model.config().dynamic_chunk.probability == 0)
      LogWarning(
          "this model was not trained in chunks (model.dynamic_chunk): with a latency of {} ms it will miss words",
          options.latency_ms);
    return ReachForLatency(model, options);
  }
  options.Validate();
  if (options.right_context_ms >= 0 || options.left_context_ms > 0)
    Throw("right_context_ms and left_context_ms are of a latency, but latency_ms is not given");
  return std::nullopt;
}

}  // namespace earshot
