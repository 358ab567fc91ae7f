// What a run reads: utterances, tokenizer, normalisation, and the loader of its examples.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/data/loader.h"
#include "src/data/manifest.h"
#include "src/frontend/cmvn.h"
#include "src/train/recipe.h"

namespace earshot {

struct TrainingData {
  std::vector<Utterance> train, dev;  // texts normalised
};

// Throws Error when a manifest cannot be read.
TrainingData LoadTrainingData(const DataOptions& options);

// The tokenizer's bytes: of recipe.tokenizer_model, of recipe.init_from, of `path` when it exists, else trained on the
// training texts and written to path.
std::string MakeTokenizer(const Recipe& recipe, const std::vector<Utterance>& train, const std::string& path);

// What a tokenizer of other texts lacks would be trained as <unk>, and recognised as nothing: warns of it, and throws
// Error where it is half of all tokens or more.
void RequireKnownTexts(const Tokenizer& tokenizer, const std::vector<Utterance>& utterances);

// Mean and variance over (at most 2000 of) the training utterances, without augmentation. Those that cannot be read are
// passed over here; the loader counts them. Throws Error when none can be read.
GlobalCmvn ComputeCmvn(const FeatureOptions& features, const std::vector<Utterance>& train, int num_threads);

// Examples that hold no word: noise from the list, or synthetic.
class SilenceMaker {
 public:
  // noise_list: as WaveAugmentOptions has it; may be empty.
  SilenceMaker(const std::string& noise_list, int sample_rate);
  // One to six seconds of: nothing at all, white, pink or brown noise, a mains hum, or a recorded noise; -80 to -10 dB.
  std::vector<float> Draw(Random& random) const;

 private:
  int sample_rate_;
  std::vector<std::vector<float>> noises_;
};

}  // namespace earshot
