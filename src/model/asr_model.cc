#include "src/model/asr_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

constexpr const char* kConfigFile = "config.yaml";
constexpr const char* kWeightsFile = "model.safetensors";
constexpr const char* kTokenizerFile = "tokenizer.model";
constexpr const char* kMean = "cmvn.mean";
constexpr const char* kInverseStd = "cmvn.inverse_std";

std::vector<float> ToVector(const Tensor& tensor) {
  const Tensor plain = tensor.to(torch::kFloat).contiguous();
  return {plain.data_ptr<float>(), plain.data_ptr<float>() + plain.numel()};
}

}  // namespace

AsrModel::AsrModel(const ModelConfig& config, std::string tokenizer_bytes, GlobalCmvn cmvn)
    : config_(config),
      tokenizer_bytes_(std::move(tokenizer_bytes)),
      tokenizer_(Tokenizer::FromBytes(tokenizer_bytes_, kTokenizerFile)),
      extractor_(MakeFeatureExtractor(config.features)),
      cmvn_(std::move(cmvn)) {
  config_.vocab_size = tokenizer_.Size();
  network_ = std::make_shared<CtcNetwork>(config_);
  network_->eval();
}

std::shared_ptr<AsrModel> AsrModel::Load(const std::string& folder, torch::Device device,
                                         const std::vector<std::string>& sets) {
  const fs::path path(folder);
  std::error_code error;
  if (!fs::is_directory(path, error))
    Throw("{}: no such model folder; expected a folder with {}, {} and {}", folder, kConfigFile, kWeightsFile,
          kTokenizerFile);
  if (fs::exists(path / "checkpoints", error) && !fs::exists(path / kWeightsFile, error))
    Throw("{}: is the folder of a training; its model is {}, which is there once an epoch was evaluated", folder,
          (path / "model").string());
  for (const char* file : {kConfigFile, kWeightsFile, kTokenizerFile}) {
    if (!fs::exists(path / file, error))
      Throw("{}: is missing; a model folder holds {}, {} and {}", (path / file).string(), kConfigFile, kWeightsFile,
            kTokenizerFile);
  }
  ModelConfig config;
  const std::string config_path = (path / kConfigFile).string();
  ReadOptions(config_path, ReadFile(config_path), {}, config);
  ReadOptions("--set", "", sets, config);
  const std::string tokenizer_path = (path / kTokenizerFile).string();
  std::string tokenizer = ReadFile(tokenizer_path);
  const int tokens = Tokenizer::FromBytes(tokenizer, tokenizer_path).Size();
  if (config.vocab_size != tokens)
    Throw("{}: vocab_size is {}, {} has {} tokens", config_path, config.vocab_size, tokenizer_path, tokens);
  try {
    config.Validate();
  } catch (const Error& e) {
    Throw("{}{}: {}", config_path, sets.empty() ? "" : " with --set", e.what());
  }
  auto model = std::make_shared<AsrModel>(config, std::move(tokenizer), GlobalCmvn{});
  const std::string weights_path = (path / kWeightsFile).string();
  model->SetWeights(LoadSafetensors(weights_path).tensors, weights_path);
  model->to(device);
  return model;
}

void AsrModel::Save(const std::string& folder, bool half) const {
  TensorMap weights = Weights();
  for (auto& [name, tensor] : weights) {
    if (half && tensor.is_floating_point()) tensor = tensor.to(torch::kHalf);
  }
  const fs::path path(folder);
  WriteFileAtomically((path / kTokenizerFile).string(), tokenizer_bytes_);
  SaveSafetensors((path / kWeightsFile).string(), weights, {{"format", "earshot"}, {"version", "1"}});
  WriteFileAtomically((path / kConfigFile).string(), DumpOptions(config_));
}

TensorMap AsrModel::Weights() const {
  TensorMap weights;
  for (const auto& item : network_->named_parameters()) weights[item.key()] = item.value().detach();
  for (const auto& item : network_->named_buffers()) weights[item.key()] = item.value().detach();
  if (!cmvn_.mean.empty()) {
    weights[kMean] = torch::tensor(cmvn_.mean);
    weights[kInverseStd] = torch::tensor(cmvn_.inverse_std);
  }
  return weights;
}

void AsrModel::Prepack(InferencePrecision precision) { earshot::Prepack(*network_, precision); }

void AsrModel::SetWeights(const TensorMap& weights, const std::string& source) {
  const torch::NoGradGuard no_grad;
  const bool training = network_->is_training();
  network_->train();  // drops what was laid out of the old ones
  network_->train(training);
  std::vector<std::string> known = {kMean, kInverseStd};
  auto take = [&](const std::string& name, Tensor target) {
    known.push_back(name);
    const auto found = weights.find(name);
    if (found == weights.end()) Throw("{}: lacks the tensor '{}'; was it made with another config.yaml?", source, name);
    if (found->second.sizes() != target.sizes()) {
      Throw("{}: tensor '{}' has shape ({}), config.yaml asks for ({})", source, name,
            fmt::join(found->second.sizes(), ", "), fmt::join(target.sizes(), ", "));
    }
    if (found->second.is_floating_point() != target.is_floating_point())
      Throw("{}: tensor '{}' has the wrong type", source, name);
    target.copy_(found->second);
  };
  for (auto& item : network_->named_parameters()) take(item.key(), item.value());
  for (auto& item : network_->named_buffers()) take(item.key(), item.value());
  for (const auto& [name, tensor] : weights) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      Throw("{}: unknown tensor '{}'{}; was it made with another config.yaml?", source, name, Suggestion(name, known));
  }
  if (weights.contains(kMean) != weights.contains(kInverseStd))
    Throw("{}: holds one of {} and {}, expected both or none", source, kMean, kInverseStd);
  if (!weights.contains(kMean)) return;
  for (const char* name : {kMean, kInverseStd}) {
    if (weights.at(name).numel() != extractor_->dim())
      Throw("{}: {} has {} values for {} features", source, name, weights.at(name).numel(), extractor_->dim());
  }
  cmvn_ = {.mean = ToVector(weights.at(kMean)), .inverse_std = ToVector(weights.at(kInverseStd))};
}

std::vector<float> AsrModel::Features(std::span<const float> samples) const {
  std::vector<float> features = extractor_->Compute(samples);
  cmvn_.Apply(features);
  return features;
}

void AsrModel::to(torch::Device device) {
  network_->to(device);
  device_ = device;
}

std::vector<float> AsrModel::EdgePadding() const {
  return std::vector<float>(
      static_cast<size_t>(std::lround(config_.edge_padding_frames * encoder_frame_s() * sample_rate())));
}

double AsrModel::encoder_frame_s() const {
  return config_.encoder.subsampling.factor * static_cast<double>(config_.features.fbank.frame_shift_ms) / 1000.0;
}

}  // namespace earshot
