#include "tests/stream/tiny_model.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/utils.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "src/base/atomic_file.h"
#include "src/base/random.h"

namespace earshot {
namespace {

std::string LetterTokenizer() {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("earshot_tiny_" + std::to_string(getpid()) + ".model");
  TrainTokenizer({.type = TokenizerType::kChar, .vocab_size = 12}, {"ab cd", "de fa be", "ace fad bed"}, path.string());
  std::string bytes = ReadFile(path.string());
  std::filesystem::remove(path);
  return bytes;
}

}  // namespace

std::shared_ptr<const AsrModel> TinyModel(const TinyModelOptions& options) {
  static const std::string tokenizer = LetterTokenizer();
  ModelConfig config;
  config.features.fbank.num_mel_bins = 20;
  config.encoder = {.num_layers = options.num_layers,
                    .dim = 16,
                    .heads = 2,
                    .feed_forward_dim = 32,
                    .pattern = options.pattern,
                    .subsampling = {.factor = 4, .channels = 4},
                    .convolution = {.kind = options.convolution, .kernel = 5, .chunk = 4},
                    .gate = {.kind = options.gate, .hidden_dim = 8, .initial_bias = 0},
                    .intermediate_layers = {}};
  config.edge_padding_frames = options.edge_padding_frames;
  at::set_num_threads(1);  // more only wait for one another over tensors this small
  torch::manual_seed(7);
  const GlobalCmvn cmvn = {.mean = std::vector<float>(20, 12.0f), .inverse_std = std::vector<float>(20, 0.3f)};
  auto model = std::make_shared<AsrModel>(config, tokenizer, cmvn);
  // Random weights give nearly flat probabilities; sharper ones change from frame to frame.
  const at::NoGradGuard no_grad;
  for (auto& item : model->network().named_parameters()) {
    if (item.key() == "head.weight") item.value().normal_(0, 1);
  }
  return model;
}

std::vector<float> Babble(double seconds, int sample_rate, uint64_t seed) {
  Random random(seed);
  std::vector<float> samples(static_cast<size_t>(std::llround(seconds * sample_rate)));
  double loudness = 0.1, previous = 0, color = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i % 1200 == 0) {
      loudness = random.Chance(0.25) ? 0 : std::pow(10.0, random.Uniform(-3, -0.5));
      color = random.Uniform(-0.95, 0.95);
    }
    previous = color * previous + random.Uniform(-1, 1);
    samples[i] = static_cast<float>(loudness * previous / 4);
  }
  return samples;
}

}  // namespace earshot
