// How a stream of a given latency looks.
//
//   const Reach reach = ReachForLatency(*model, {.latency_ms = 320});
//   EncoderState state = model->network().encoder().StartStream(&reach);
#pragma once

#include <optional>

#include "src/base/options.h"
#include "src/model/asr_model.h"
#include "src/nn/reach.h"

namespace earshot {

// In milliseconds, rounded down to whole encoder frames.
struct LatencyOptions {
  // How long a sound may wait for its word: a chunk and its right context. 0: what the model's own pattern takes.
  int latency_ms = 0;
  // Of the latency, what is heard behind each chunk before its words are told, and computed once more with the next
  // one: the work of a stream grows by latency / (latency - right context). -1: seven eighths, up to 480 ms, beyond
  // which little is gained. 0: none, the least work, and hears worst.
  int right_context_ms = -1;
  // What is heard before the chunk. 0: the most that the model was trained with.
  int left_context_ms = 0;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// latency_ms is not 0. Where the encoder cannot have right context (it has memory, or skips frames), -1 is none. Throws
// Error where the model's pattern cannot be chunked, or the options do not fit one another.
Reach ReachForLatency(const AsrModel& model, const LatencyOptions& options);

// The same; none where latency_ms is 0, and then no other may be given.
std::optional<Reach> ReachIfGiven(const AsrModel& model, const LatencyOptions& options);

}  // namespace earshot
