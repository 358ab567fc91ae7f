// Encoder and CTC head (Graves et al. 2006): normalised features to log probabilities of tokens.
//
//   auto network = std::make_shared<CtcNetwork>(config);
//   CtcOutput out = network->forward(features, lens);    // (N, T, C) -> (N, T', V)
//
// The intermediate outputs of the encoder go through the same head (Lee & Watanabe 2021). Thread-safe
// in evaluation.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <vector>

#include "src/model/config.h"

namespace earshot {

struct CtcOutput {
  torch::Tensor log_probs;  // (N, T', V) float, blank is token 0; see GateOptions::threshold, SkipOptions
  torch::Tensor lens;       // (N) int64 on the CPU
  torch::Tensor gate;       // (N, T') float; undefined when off
  std::vector<torch::Tensor> intermediate;  // (N, T', V) float each, log probabilities
  torch::Tensor frame_logits;               // (N, T', V) of the frame head, in training; undefined without
};

class CtcNetwork : public torch::nn::Module {
 public:
  // config.vocab_size must be set.
  explicit CtcNetwork(const ModelConfig& config);

  // features: (N, T, C) float, normalised, zeros behind the end; lens: (N) int64 on the CPU. reach: how far the
  // encoder looks; null: as its options say.
  CtcOutput forward(const torch::Tensor& features, const torch::Tensor& lens, const Reach* reach = nullptr);

  // The same for the next frames of a stream; see Encoder::Stream.
  CtcOutput Stream(const torch::Tensor& features, bool final, EncoderState& state);
  // Of several streams at once; see Encoder::StreamBatch.
  std::vector<CtcOutput> StreamBatch(const std::vector<EncoderStep>& steps);

  Encoder& encoder() { return *encoder_; }
  // What the encoder adds to its frames after an intermediate output; empty without self-conditioning.
  Encoder::Conditioning conditioning();
  // The head's probability of blank for intermediate frames.
  Encoder::BlankProbability blank();
  int64_t NumParameters() const;

 private:
  torch::Tensor LogProbs(const torch::Tensor& x);
  CtcOutput Head(const EncoderOutput& encoded);

  ModelConfig config_;
  std::shared_ptr<Encoder> encoder_;
  torch::nn::Linear head_{nullptr}, feedback_{nullptr}, frame_head_{nullptr};
};

}  // namespace earshot
