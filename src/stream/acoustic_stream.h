// Features to log probabilities, piece by piece and in constant memory, whatever the encoder's pattern.
//
//   std::unique_ptr<AcousticStream> stream = MakeAcousticStream(model, {});
//   AcousticFrames frames = stream->Accept(features, false);   // any number of frames
//   AcousticFrames rest = stream->Accept({}, true);            // the end: nothing is left behind
//
// A pattern that is bounded (Pattern::Bounded) streams with the encoder's state: what comes out is what the whole
// recording at once would give. Any other (full attention) goes in windows that overlap: exact where the recording
// fits one window, and beyond that as near as the overlap is long. Not thread-safe: one for each recording;
// the model is shared.
#pragma once

#include <torch/types.h>

#include <memory>
#include <span>

#include "src/base/options.h"
#include "src/model/asr_model.h"

namespace earshot {

struct WindowOptions {
  // Seconds recognised at once. Self-attention over all of it costs its square.
  double window_s = 30;
  // Seconds that two windows share. What the outer half of it gives is dropped on either side, so that at a seam no
  // word is cut or heard twice.
  double overlap_s = 4;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

struct AcousticFrames {
  torch::Tensor log_probs;  // (T', V) float on the CPU; undefined: none yet
  torch::Tensor gate;       // (T') float on the CPU; undefined: none yet, or the gate is off
};

class AcousticStream {
 public:
  virtual ~AcousticStream() = default;
  // features: (t, C), normalised, the next frames; none is fine. final: the recording ends behind them, and
  // no call may follow.
  virtual AcousticFrames Accept(std::span<const float> features, bool final) = 0;
};

// The one that suits the model's pattern, or the reach, if one is given.
std::unique_ptr<AcousticStream> MakeAcousticStream(std::shared_ptr<const AsrModel> model, const WindowOptions& options,
                                                   const Reach* reach = nullptr);
// With the encoder's state, which grows without end unless the pattern is bounded.
std::unique_ptr<AcousticStream> MakeStatefulStream(std::shared_ptr<const AsrModel> model, const Reach* reach = nullptr);
std::unique_ptr<AcousticStream> MakeWindowedStream(std::shared_ptr<const AsrModel> model, const WindowOptions& options);

}  // namespace earshot
