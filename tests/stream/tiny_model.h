// A model of a few thousand random weights that "hears" many words in noise: for tests of all that moves frames about.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/model/asr_model.h"

namespace earshot {

struct TinyModelOptions {
  std::string pattern = "local(chunk=4,left=8)+strided(every=8,reach=32)+memory(slots=2,chunk=4)";
  GateKind gate = GateKind::kLearned;
  ConvolutionKind convolution = ConvolutionKind::kChunked;
  int num_layers = 2;
  int edge_padding_frames = 0;
};

// Two blocks of width 16 over 20 mel filters; letters as tokens. The same weights at each call.
std::shared_ptr<const AsrModel> TinyModel(const TinyModelOptions& options = {});

// Bursts of noise of changing loudness, with pauses: features that move.
std::vector<float> Babble(double seconds, int sample_rate, uint64_t seed = 1);

}  // namespace earshot
