// Which utterances make up each batch of each epoch.
//
//   Sampler sampler(durations_s, {.max_frames = 20000, .seed = 1});
//   for (const std::vector<int64_t>& batch : sampler.Batches(epoch)) ...   // indices into durations_s
//
// Utterances of similar duration share a batch, so that little of it is padding: the corpus is cut at
// its quantiles into buckets. Within a bucket an epoch deals the utterances anew, and the batches of all
// buckets come in a new order; all of it follows from (seed, epoch), so {epoch, position} resumes a run.
// Every epoch has the same number of batches. Immutable and thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/options.h"

namespace earshot {

struct SamplerOptions {
  // Duration buckets; 1 mixes all durations. No more are made than there are utterances.
  int num_buckets = 10;
  // Most frames of 10 ms in a batch, padding counted: utterances times the longest of the bucket.
  // An utterance that is longer is a batch of its own.
  int64_t max_frames = 20000;
  // Most utterances in a batch. 0: as many as max_frames allows.
  int max_utterances = 0;
  // false, for evaluation: every epoch the same batches, the longest utterances first.
  bool shuffle = true;
  int64_t seed = 0;

  void Visit(OptionVisitor& visitor);
  // Throws Error that names the key.
  void Validate() const;
};

// Where a run stands: `position` batches of `epoch` have been taken.
struct SamplerState {
  int64_t epoch = 0;
  int64_t position = 0;
  bool operator==(const SamplerState&) const = default;
};

// One process of several that train together: it takes every num_ranks-th batch. The last batches that
// are not one for each are left out of the epoch, so that none waits for another.
struct SamplerShard {
  int rank = 0;
  int num_ranks = 1;
};

class Sampler {
 public:
  // durations_s: one for each utterance; a negative one is unknown and counts as the median.
  // Throws Error when there are none, or fewer batches than ranks.
  Sampler(std::span<const double> durations_s, const SamplerOptions& options, SamplerShard shard = {});

  // The batches of an epoch, each of them indices of utterances.
  std::vector<std::vector<int64_t>> Batches(int64_t epoch) const;
  // How many Batches gives, in every epoch.
  int64_t NumBatches() const { return num_batches_; }
  int64_t NumUtterances() const { return num_utterances_; }
  const SamplerOptions& options() const { return options_; }

 private:
  struct Bucket {
    std::vector<int64_t> utterances;
    int64_t num_batches;
  };

  SamplerOptions options_;
  SamplerShard shard_;
  std::vector<Bucket> buckets_;
  int64_t num_utterances_ = 0;
  int64_t num_batches_ = 0;
};

}  // namespace earshot
