// A model as it is shipped: a folder with config.yaml, model.safetensors and tokenizer.model.
//
//   std::shared_ptr<AsrModel> model = AsrModel::Load("models/an4", torch::kCPU);
//   std::vector<float> features = model->Features(samples);        // (T, C), normalised
//
// The front end's options and the normalisation are stored with the weights, so that serving computes what
// training computed. Shared by all streams; thread-safe once loaded.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/frontend/cmvn.h"
#include "src/frontend/feature_extractor.h"
#include "src/model/config.h"
#include "src/model/ctc_network.h"
#include "src/model/safetensors.h"
#include "src/text/tokenizer.h"

namespace earshot {

class AsrModel {
 public:
  // A fresh network with random weights, drawn from torch's generator.
  AsrModel(const ModelConfig& config, std::string tokenizer_bytes, GlobalCmvn cmvn);

  // Throws Error when a file is missing or does not fit the others: names file, tensor, found and expected.
  // sets: keys over config.yaml, "encoder.pattern=full" each.
  static std::shared_ptr<AsrModel> Load(const std::string& folder, torch::Device device,
                                        const std::vector<std::string>& sets = {});
  // Writes the three files, each whole or not at all; weights as float, or as half to ship them.
  void Save(const std::string& folder, bool half = false) const;

  // All weights by name, the normalisation among them.
  TensorMap Weights() const;
  // Takes weights of the same names and shapes; source names them in errors. What Prepack made is dropped.
  void SetWeights(const TensorMap& weights, const std::string& source);

  // Lays the weights out for inference on the CPU, once, before the model is shared. A second copy of them: half the
  // memory again in bf16, a quarter in int8. See ParsePrecision. On a GPU it does nothing.
  void Prepack(InferencePrecision precision);

  // samples: (S) at sample_rate(), in [-1, 1]. Returns (T, C), normalised.
  std::vector<float> Features(std::span<const float> samples) const;

  const ModelConfig& config() const { return config_; }
  CtcNetwork& network() const { return *network_; }
  const std::shared_ptr<const FeatureExtractor>& extractor() const { return extractor_; }
  const GlobalCmvn& cmvn() const { return cmvn_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const std::string& tokenizer_bytes() const { return tokenizer_bytes_; }
  torch::Device device() const { return device_; }
  void to(torch::Device device);

  int sample_rate() const { return extractor_->sample_rate(); }
  // Seconds between encoder frames.
  double encoder_frame_s() const;
  // Zeros that recognition puts before and after a recording, in samples.
  std::vector<float> EdgePadding() const;

 private:
  ModelConfig config_;
  std::string tokenizer_bytes_;
  Tokenizer tokenizer_;
  std::shared_ptr<const FeatureExtractor> extractor_;
  GlobalCmvn cmvn_;
  std::shared_ptr<CtcNetwork> network_;
  torch::Device device_ = torch::kCPU;
};

}  // namespace earshot
