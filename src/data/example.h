// An utterance as the model trains on it: read, checked, augmented, turned into features and tokens.
//
//   ExampleMaker maker(options, {.features = extractor, .tokenizer = tokenizer, .encoder_frames = frames_out},
//                      train_utterances);
//   Loader loader(train_utterances, sampler, maker, loader_options);   // an ExampleMaker is a MakeExample
//
// In this order: splicing (may replace audio and text), speed, room, noise, gain, vocal tract length, features.
// Features are not normalised: CMVN belongs to the model. Without options that augment, as for evaluation, the
// Random is not drawn from. Thread-safe; copies share what they hold.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "src/base/options.h"
#include "src/base/random.h"
#include "src/data/loader.h"
#include "src/data/splice.h"
#include "src/frontend/feature_extractor.h"
#include "src/frontend/wave_augment.h"
#include "src/text/tokenizer.h"

namespace earshot {

struct ExampleOptions {
  // Decoded audio is kept in memory up to this; small corpora are read once. 0: always from the files.
  double cache_mb = 0;
  // Longer utterances are skipped, in seconds. 0: none is.
  double max_duration_s = 0;
  // Utterances without text are good examples (of silence) instead of skipped ones.
  bool allow_empty_text = false;
  // Lowest and highest warp of vocal tract length perturbation (Jaitly and Hinton 2013), drawn evenly. Empty: none.
  std::vector<double> vtln_range;
  WaveAugmentOptions wave;
  SpliceOptions splice;

  void Visit(OptionVisitor& visitor);
  // Throws Error that names the key.
  void Validate() const;
};

struct ExampleParts {
  std::shared_ptr<const FeatureExtractor> features;
  std::shared_ptr<const Tokenizer> tokenizer;
  // Encoder frames that so many frames become.
  std::function<int64_t(int64_t num_frames)> encoder_frames;
};

class ExampleMaker {
 public:
  // utterances: what splices are drawn from; those of training alone.
  // Throws Error when the options do not hold together, or noises, rooms or alignments cannot be read.
  ExampleMaker(const ExampleOptions& options, ExampleParts parts, const std::vector<Utterance>& utterances = {});

  // Throws Error, which names the file, when the utterance is of no use: missing, truncated, empty, or NaN audio,
  // less than one frame, no text, more tokens than the encoder's frames can hold.
  Example operator()(const Utterance& utterance, Random& random) const;

 private:
  struct Shared;
  std::shared_ptr<const Shared> shared_;
};

// The fewest encoder frames that CTC can put these tokens on: one each, and a blank between equal neighbours
// (Graves et al. 2006).
int64_t CtcFramesNeeded(std::span<const int> tokens);

}  // namespace earshot
