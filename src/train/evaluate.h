// Error rates of a model on a manifest, by greedy CTC.
//
//   Evaluation evaluation = Evaluate(*model, LoadManifest("test.jsonl"), {});
//   fmt::print("WER {:.2f} %\n", 100 * evaluation.words.Rate());
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/data/manifest.h"
#include "src/model/asr_model.h"
#include "src/text/normalizer.h"
#include "src/text/wer.h"

namespace earshot {

struct EvaluateOptions {
  // Applied to references and hypotheses.
  NormalizeOptions normalize;
  // Threads that recognise side by side, each with its share of the cores. 0: one for each core.
  int workers = 0;
  // Frames of a padded batch.
  int64_t max_batch_frames = 6000;
  // How far the encoder looks. nullopt: as the model's pattern says.
  std::optional<Reach> reach;
  bool progress = false;
};

struct EvaluatedUtterance {
  std::string id;
  std::string reference, hypothesis;
  ErrorCounts words, characters;
};

struct SkippedUtterance {
  std::string id, reason;
};

struct Evaluation {
  // In the order of the manifest.
  std::vector<EvaluatedUtterance> utterances;
  std::vector<SkippedUtterance> skipped;
  ErrorCounts words, characters;
  double seconds_audio = 0;
  double seconds_wall = 0;
  // Mean of the gate over all encoder frames; 1 when off.
  double mean_gate = 1;
  // Sum over utterances of the squared number of their encoder frames: the pairs of full attention.
  double full_pairs = 0;
};

Evaluation Evaluate(const AsrModel& model, const std::vector<Utterance>& utterances, const EvaluateOptions& options);

}  // namespace earshot
