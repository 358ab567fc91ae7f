#include "src/train/losses.h"

#include <algorithm>

#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

void LossOptions::Visit(OptionVisitor& v) {
  v.Field("intermediate_weight", intermediate_weight);
  v.Field("consistency_weight", consistency_weight);
  v.Field("distillation_weight", distillation_weight);
  v.Field("frame_weight", frame_weight);
  v.Field("frame_share", frame_share);
  v.Field("gate_weight", gate_weight);
  v.Field("gate_target", gate_target);
  v.Field("gate_speech_weight", gate_speech_weight);
  v.Field("gate_speech_level", gate_speech_level);
}

void LossOptions::Validate() const {
  if (!(intermediate_weight >= 0 && intermediate_weight <= 1))
    Throw("train.loss.intermediate_weight is {}, expected between 0 and 1", intermediate_weight);
  if (!(consistency_weight >= 0)) Throw("train.loss.consistency_weight is {}, expected 0 or more", consistency_weight);
  if (!(distillation_weight >= 0))
    Throw("train.loss.distillation_weight is {}, expected 0 or more", distillation_weight);
  if (!(frame_weight >= 0)) Throw("train.loss.frame_weight is {}, expected 0 or more", frame_weight);
  if (!(frame_share > 0 && frame_share <= 1))
    Throw("train.loss.frame_share is {}, expected more than 0 and at most 1", frame_share);
  if (!(gate_weight >= 0)) Throw("train.loss.gate_weight is {}, expected 0 or more", gate_weight);
  if (!(gate_target >= 0 && gate_target <= 1))
    Throw("train.loss.gate_target is {}, expected between 0 and 1", gate_target);
  if (!(gate_speech_weight >= 0)) Throw("train.loss.gate_speech_weight is {}, expected 0 or more", gate_speech_weight);
  if (!(gate_speech_level > 0 && gate_speech_level <= 1))
    Throw("train.loss.gate_speech_level is {}, expected more than 0 and at most 1", gate_speech_level);
}

namespace {

// (N * views) losses of each utterance.
Tensor Ctc(const Tensor& log_probs, const Tensor& lens, const CtcTargets& targets, int num_views) {
  // The loss takes the lengths on the CPU; targets are told once for each view.
  const Tensor tokens = targets.tokens.repeat({num_views}).to(log_probs.device());
  return torch::ctc_loss(log_probs.to(torch::kFloat).transpose(0, 1), tokens, lens, targets.lens.repeat({num_views}),
                         /*blank=*/0, at::Reduction::None, /*zero_infinity=*/true);
}

// (T', 1) of 1 and 0 for each utterance: (N, T', 1).
Tensor FrameMask(const Tensor& lens, int64_t frames, torch::Device device) {
  return (torch::arange(frames, torch::kInt64).unsqueeze(0) < lens.unsqueeze(1)).to(device, torch::kFloat).unsqueeze(2);
}

// KL(fixed || log_probs) of each token of each frame: (N, T', V).
Tensor Divergence(const Tensor& fixed, const Tensor& log_probs) { return fixed.exp() * (fixed - log_probs); }

// Each view is drawn to the other, which is held fixed (Yao et al. 2024, eq. 5): sum over frames of
// 1/2 (KL(sg(b) || a) + KL(sg(a) || b)), summed over utterances.
Tensor Consistency(const Tensor& log_probs, const Tensor& lens) {
  const int64_t n = log_probs.size(0) / 2;
  const Tensor a = log_probs.narrow(0, 0, n), b = log_probs.narrow(0, n, n);
  const Tensor mask = FrameMask(lens.narrow(0, 0, n), a.size(1), a.device());
  const Tensor kl = Divergence(b.detach(), a) + Divergence(a.detach(), b);
  return 0.5 * (kl * mask).sum();
}

// KL(teacher || output), summed over the frames of all utterances and averaged over views.
Tensor Distillation(const Tensor& log_probs, const Tensor& lens, const Tensor& teacher, int num_views) {
  const Tensor kl = Divergence(teacher.detach().to(torch::kFloat), log_probs.to(torch::kFloat));
  return (kl * FrameMask(lens, log_probs.size(1), log_probs.device())).sum() / num_views;
}

// Sum over labelled frames, summed over utterances and averaged over views.
Tensor FrameCrossEntropy(const Tensor& logits, const Tensor& labels, int num_views) {
  const Tensor all = labels.narrow(1, 0, logits.size(1)).repeat({num_views, 1}).to(logits.device());
  return torch::nll_loss_nd(torch::log_softmax(logits.to(torch::kFloat), -1).flatten(0, 1), all.flatten(), {},
                            at::Reduction::Sum,
                            /*ignore_index=*/-1) /
         num_views;
}

// Mean over the labelled frames of each utterance, summed over utterances and averaged over views. In speech a gate of
// `level` or more is as good as 1.
Tensor SpeechCrossEntropy(const Tensor& gate, const Tensor& labels, int num_views, double level) {
  const Tensor all = labels.narrow(1, 0, gate.size(1)).repeat({num_views, 1}).to(gate.device());
  const Tensor known = (all >= 0).to(torch::kFloat), speech = (all > 0).to(torch::kFloat);
  // A gate can be 1 in float; what is left of it must not be 0.
  constexpr double kLeast = 1e-6;
  const Tensor each =
      speech * (gate / level).clamp(kLeast, 1).log() + (1 - speech) * (1 - gate).clamp_min(kLeast).log();
  return -((each * known).sum(1) / known.sum(1).clamp_min(1)).sum() / num_views;
}

}  // namespace

double FrameWeight(const LossOptions& options, double done) {
  return options.frame_weight * std::max(0.0, 1 - done / options.frame_share);
}

Losses ComputeLosses(const CtcOutput& output, const CtcTargets& targets, int num_views, const LossOptions& options,
                     const Tensor& teacher) {
  const double per_view = 1.0 / num_views;
  Losses losses;
  const Tensor each = Ctc(output.log_probs, output.lens, targets, num_views);
  losses.ctc = each.detach().view({num_views, -1}).mean(0);
  Tensor total = each.sum() * per_view;
  const size_t taken = output.intermediate.size();
  if (taken > 0 && options.intermediate_weight > 0) {
    Tensor sum = torch::zeros({}, total.options());
    for (const Tensor& log_probs : output.intermediate)
      sum = sum + Ctc(log_probs, output.lens, targets, num_views).sum();
    sum = sum * (per_view / static_cast<double>(taken));
    losses.intermediate = sum.item<double>();
    total = (1 - options.intermediate_weight) * total + options.intermediate_weight * sum;
  }
  if (num_views == 2) {
    const Tensor consistency = Consistency(output.log_probs, output.lens);
    losses.consistency = consistency.item<double>();
    total = total + options.consistency_weight * consistency;
  }
  if (teacher.defined()) {
    const Tensor distillation = Distillation(output.log_probs, output.lens, teacher, num_views);
    losses.distillation = distillation.item<double>();
    total = total + options.distillation_weight * distillation;
  }
  if (output.frame_logits.defined() && options.frame_weight > 0) {
    const Tensor frame = FrameCrossEntropy(output.frame_logits, targets.frame_labels, num_views);
    losses.frame = frame.item<double>();
    total = total + options.frame_weight * frame;
  }
  if (output.gate.defined() && output.gate.requires_grad() && options.gate_weight > 0) {
    const Tensor mask = FrameMask(output.lens, output.gate.size(1), output.gate.device()).squeeze(2);
    const Tensor mean = (output.gate * mask).sum(1) / mask.sum(1).clamp_min(1);  // (N * views)
    const Tensor over = torch::relu(mean - options.gate_target).square().sum() * per_view;
    losses.gate = over.item<double>();
    total = total + options.gate_weight * over;
  }
  if (output.gate.defined() && output.gate.requires_grad() && options.gate_speech_weight > 0) {
    const Tensor speech = SpeechCrossEntropy(output.gate, targets.frame_labels, num_views, options.gate_speech_level);
    losses.gate_speech = speech.item<double>();
    total = total + options.gate_speech_weight * speech;
  }
  losses.total = total;
  return losses;
}

}  // namespace earshot
