// What is minimised: CTC, its intermediate, consistency and distillation forms, and what holds the gate.
#pragma once

#include <torch/types.h>

#include <vector>

#include "src/base/options.h"
#include "src/model/ctc_network.h"

namespace earshot {

struct LossOptions {
  // Share of the intermediate CTC losses: (1 - w) final + w mean of intermediate (Lee & Watanabe 2021). Only where the
  // encoder has intermediate layers.
  double intermediate_weight = 0.3;
  // Consistency-regularised CTC (Yao et al. 2024): each batch is seen in two views of SpecAugment, whose
  // distributions are drawn together with this weight. 0: one view.
  double consistency_weight = 0;
  // Batches that are seen in chunks (model.dynamic_chunk) are drawn with this weight to what the same network says
  // of them as its own pattern sees them, which is held fixed (Yu et al. 2021, Dual-mode ASR). 0: they are not.
  double distillation_weight = 0;
  // Cross-entropy of each encoder frame against the token that a word alignment puts there, by a head of
  // its own that only training has: brings CTC with large tokens over its first plateau. Needs
  // data.augment.splice.alignments. Falls linearly to 0 over the first frame_share of the run.
  double frame_weight = 0;
  double frame_share = 0.7;
  // Budget of the learned gate: weight (mean g - gate_target)^2 where the mean lies above the target.
  double gate_weight = 0.1;
  double gate_target = 0.6;
  // Binary cross-entropy of the learned gate against speech (1) and silence (0), in the frames where a word alignment
  // tells them apart: makes the gate the voice activity. Needs data.augment.splice.alignments.
  double gate_speech_weight = 0;
  // Up to where speech draws it: beyond, what a frame is worth is left to the other losses. 1: none is left.
  double gate_speech_level = 1;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

// Token targets of a batch.
struct CtcTargets {
  torch::Tensor tokens;  // (sum of U) int64
  torch::Tensor lens;    // (N) int64
  // (N, T') int64: the token spoken in each encoder frame, blank between words, -1 where nothing is known.
  torch::Tensor frame_labels;
};

struct Losses {
  torch::Tensor total;  // () float: what is differentiated, summed over utterances
  torch::Tensor ctc;    // (N) float, detached: of each utterance
  // Summed over utterances, before their weights.
  double intermediate = 0, consistency = 0, distillation = 0, frame = 0, gate = 0, gate_speech = 0;
};

// output: of N utterances, or of 2N in two views (all of the first, then all of the second). CTC is computed in float.
// teacher: log probabilities as output.log_probs has them, that it is drawn to; undefined: none.
Losses ComputeLosses(const CtcOutput& output, const CtcTargets& targets, int num_views, const LossOptions& options,
                     const torch::Tensor& teacher = {});

// The weight of the frame loss when `done` (0 to 1) of the run is over.
double FrameWeight(const LossOptions& options, double done);

}  // namespace earshot
