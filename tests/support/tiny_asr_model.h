// A model small enough to be made, trained and saved within a test.
#pragma once

#include <string>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/model/asr_model.h"
#include "tests/support/temp_folder.h"

namespace earshot {

// One letter a token: "a" to "e", and the word boundary.
inline std::string LetterTokenizer(const TempFolder& folder) {
  const std::string path = folder.Path("letters.model");
  TrainTokenizer({.type = TokenizerType::kChar, .vocab_size = 30}, {"ab cd e", "ba dc e", "e ab"}, path);
  return ReadFile(path);
}

// 16 mel filters, one block of width 16.
inline ModelConfig TinyConfig() {
  ModelConfig config;
  config.features.fbank.num_mel_bins = 16;
  EncoderOptions& e = config.encoder;
  e.num_layers = 1;
  e.dim = 16;
  e.heads = 2;
  e.feed_forward_dim = 24;
  e.pattern = "local(chunk=4,left=8)+strided(every=4,reach=32)";
  e.subsampling.channels = 4;
  e.convolution = {.kind = ConvolutionKind::kChunked, .kernel = 5, .chunk = 4};
  e.gate.hidden_dim = 4;
  return config;
}

}  // namespace earshot
