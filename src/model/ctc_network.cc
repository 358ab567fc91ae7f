#include "src/model/ctc_network.h"

#include "src/base/error.h"
#include "src/nn/dropout.h"
#include "src/nn/frame_queue.h"

namespace earshot {

using torch::Tensor;

CtcNetwork::CtcNetwork(const ModelConfig& config) : config_(config) {
  config_.Validate();
  EARSHOT_CHECK(config_.vocab_size > 0, "a network without tokens");
  const int dim = config_.encoder.dim;
  const int num_features = config_.features.type == FeatureType::kFbank ? config_.features.fbank.num_mel_bins
                                                                        : config_.features.mfcc.num_ceps;
  encoder_ = register_module("encoder", std::make_shared<Encoder>(config_.encoder, num_features));
  head_ = register_module("head", torch::nn::Linear(dim, config_.vocab_size));
  if (config_.ctc.frame_head) frame_head_ = register_module("frame_head", torch::nn::Linear(dim, config_.vocab_size));
  if (config_.ctc.self_conditioning)
    feedback_ = register_module("feedback", torch::nn::Linear(config_.vocab_size, dim));
}

Encoder::Conditioning CtcNetwork::conditioning() {
  if (feedback_.is_empty()) return {};
  return [this](const Tensor& x) { return feedback_(torch::softmax(head_(x), -1)).to(torch::kFloat); };
}

Encoder::BlankProbability CtcNetwork::blank() {
  return [this](const Tensor& x) { return torch::softmax(head_(x).to(torch::kFloat), -1).select(-1, 0); };
}

Tensor CtcNetwork::LogProbs(const Tensor& x) {
  Tensor logits = head_(Dropout(x, config_.ctc.dropout, is_training())).to(torch::kFloat);
  if (!is_training() && config_.ctc.blank_penalty != 0) {
    Tensor penalty = torch::zeros({logits.size(-1)}, logits.options());
    penalty[0] = config_.ctc.blank_penalty;
    logits = logits - penalty;
  }
  return torch::log_softmax(logits, -1);
}

namespace {

// The log probability of other tokens in a frame without speech: finite, so that alignment still finds a path.
constexpr double kSilenced = -30;

// log_probs: (N, T', V); silent: (N, T') of bool.
Tensor BlankWhere(const Tensor& silent, const Tensor& log_probs) {
  Tensor blank = torch::full({log_probs.size(2)}, kSilenced, log_probs.options());
  blank[0] = 0;
  return torch::where(silent.unsqueeze(2), blank, log_probs);
}

}  // namespace

CtcOutput CtcNetwork::Head(const EncoderOutput& encoded) {
  CtcOutput out{.log_probs = LogProbs(encoded.x), .lens = encoded.lens, .gate = encoded.gate};
  // Only the loss reads these.
  if (is_training()) {
    for (const Tensor& x : encoded.intermediate) out.intermediate.push_back(LogProbs(x));
    if (!frame_head_.is_empty()) out.frame_logits = frame_head_(encoded.x);
  } else if (out.gate.defined() && config_.encoder.gate.threshold > 0) {
    out.log_probs = BlankWhere(out.gate < config_.encoder.gate.threshold, out.log_probs);
  }
  if (encoded.dropped.defined()) out.log_probs = BlankWhere(encoded.dropped, out.log_probs);
  return out;
}

CtcOutput CtcNetwork::forward(const Tensor& features, const Tensor& lens, const Reach* reach) {
  return Head(encoder_->forward(features, lens, conditioning(), blank(), reach));
}

CtcOutput CtcNetwork::Stream(const Tensor& features, bool final, EncoderState& state) {
  return Head(encoder_->Stream(features, final, state, conditioning(), blank()));
}

std::vector<CtcOutput> CtcNetwork::StreamBatch(const std::vector<EncoderStep>& steps) {
  const std::vector<EncoderOutput> encoded = encoder_->StreamBatch(steps, conditioning(), blank());
  if (encoded.size() == 1) return {Head(encoded.front())};
  EncoderOutput all;
  std::vector<Tensor> x, gate, dropped;
  std::vector<int64_t> counts;
  for (const EncoderOutput& one : encoded) {
    counts.push_back(one.x.size(1));
    x.push_back(one.x);
    if (one.gate.defined()) gate.push_back(one.gate);
    if (one.dropped.defined()) dropped.push_back(one.dropped);
  }
  all.x = Join(x);
  if (!gate.empty()) all.gate = Join(gate);
  if (!dropped.empty()) all.dropped = Join(dropped);
  const CtcOutput joined = Head(all);
  const auto log_probs = Split(joined.log_probs, counts), gates = Split(joined.gate, counts);
  std::vector<CtcOutput> out;
  for (size_t i = 0; i < encoded.size(); ++i)
    out.push_back({.log_probs = log_probs[i], .lens = encoded[i].lens, .gate = gates[i]});
  return out;
}

int64_t CtcNetwork::NumParameters() const {
  int64_t total = 0;
  for (const Tensor& p : parameters()) total += p.numel();
  return total;
}

}  // namespace earshot
