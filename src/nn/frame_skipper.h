// Which frames leave the sequence behind a layer: what the gate turns down, and the intermediate CTC holds for blank,
// costs no more feed-forward, attention or convolution.
//
//   FrameSkipper skipper({.from_layer = 4, .threshold = 0.1});
//   GatedFrames kept = skipper.TakeOut(frames, blank, final, state);      // the next frames of a stream, behind block
//   4
//   ...                                                                   // the blocks that follow
//   RestoredFrames all = skipper.PutBack(kept, state);                    // every frame in its place again
//
// A frame stays when it, or one within guard_frames of it, is worth hearing: so words keep the frames round them, a
// convolution sees only guard frames from beyond a seam, and no token's frames are cut. Positions stay those of the
// stream. Frames that were taken out are recognised as blank. In evaluation alone: training sees every frame.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "src/base/options.h"
#include "src/nn/conformer_block.h"

namespace earshot {

struct SkipOptions {
  // The block (counted from 1) behind which frames are taken out. 0: never.
  int from_layer = 0;
  // A frame is worth hearing when its gate is this or more.
  double threshold = 0.1;
  // Or when the CTC head, asked behind from_layer, gives blank less than this; asked only where encoder.
  // intermediate_layers holds from_layer. 0: the gate alone decides.
  double blank_threshold = 0.95;
  // Frames that stay on either side of one that is worth hearing.
  int guard_frames = 8;
  void Visit(OptionVisitor& v);
  void Validate(int num_layers) const;
};

struct SkipState {
  // Frames that are not decided yet, and whether each of them is worth hearing, oldest first.
  GatedFrames waiting;
  std::vector<bool> worth;
  int64_t since_last = 1 << 30;  // frames from the last decided one back to the last that was worth hearing
  // Frames that are decided and not given out: whether they stayed, their gate (N, t, 1), and those that have come out
  // of the last block, (N, t', D).
  std::vector<bool> kept;
  torch::Tensor gate, finished;
};

struct RestoredFrames {
  torch::Tensor x;        // (1, t, D), zeros for frames that were taken out
  torch::Tensor gate;     // (1, t, 1)
  torch::Tensor dropped;  // (1, t) bool
};

class FrameSkipper {
 public:
  explicit FrameSkipper(const SkipOptions& options) : options_(options) {}
  bool enabled() const { return options_.from_layer > 0; }
  int from_layer() const { return options_.from_layer; }

  // frames: of one stream, with their gate. blank: (1, t) float, their probability of blank, or undefined. Returns
  // those that stay of the frames that are decided; the others wait while a guard of theirs is still to come.
  GatedFrames TakeOut(const GatedFrames& frames, const torch::Tensor& blank, bool final, SkipState& state) const;
  // kept: what the last block has given. Returns all frames that are complete up to the first that is not.
  RestoredFrames PutBack(const GatedFrames& kept, SkipState& state) const;

 private:
  // Whether each of the next frames stays; state.worth are the frames that were not decided so far.
  std::vector<bool> Decide(bool final, SkipState& state) const;

  SkipOptions options_;
};

}  // namespace earshot
