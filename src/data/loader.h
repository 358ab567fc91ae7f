// Batches made ahead of time by worker threads, in an order that does not depend on them.
//
//   Loader loader(utterances, Sampler(durations, sampler_options), make_example, {.num_threads = 4});
//   loader.Seek(checkpoint.sampler_state);                  // where a run is resumed
//   while (std::optional<Batch> batch = loader.Next()) ...  // one epoch; the next call begins another
//
// Each example is made by make_example with a Random of its own, from {seed, epoch, utterance index}:
// the same batches come from one thread and from sixteen, and from a run that was resumed.
//
// An utterance whose make_example throws Error is left out of its batch; it is counted, and its id and
// reason are appended to skipped.jsonl. When too large a share is skipped, Next throws and says why. Any
// other exception comes out of Next in its turn.
//
// One thread uses the Loader; make_example is called by several at once. The destructor may be called at
// any time and waits for the examples being made.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/base/options.h"
#include "src/base/random.h"
#include "src/data/manifest.h"
#include "src/data/sampler.h"

namespace earshot {

// One token with the time in which it is spoken, from a word alignment.
struct TokenSpan {
  int token = 0;
  double start_s = 0;
  double end_s = 0;
};

// What the model trains on.
struct Example {
  std::string id;
  std::string text;
  // (T, C) row-major.
  std::vector<float> features;
  int64_t num_frames = 0;
  // (U) token ids.
  std::vector<int> tokens;
  // The same tokens with their times, where the words of the utterance are aligned; else empty.
  std::vector<TokenSpan> token_spans;
  // Of the samples that the features were computed from.
  double duration_s = 0;
};

struct Batch {
  // Never empty: a batch of which all were skipped is passed over.
  std::vector<Example> examples;
  int64_t epoch = 0;
  // Among the batches of the epoch.
  int64_t index = 0;
};

// Thread-safe. Throws Error for an utterance that cannot be used.
using MakeExample = std::function<Example(const Utterance&, Random&)>;

struct LoaderOptions {
  int num_threads = 2;
  // Batches that are made ahead of the one in use; memory grows with it.
  int prefetch_batches = 4;
  // Begin the next epoch while the last batches of one are in use. For training; an evaluation of one
  // epoch would make batches that nobody takes.
  bool prefetch_across_epochs = true;
  // The run stops when more than this share of the utterances had to be skipped; 1: never. It is judged
  // from the 100th utterance on, and at the end of every epoch.
  double max_skipped_share = 0.1;

  void Visit(OptionVisitor& visitor);
  // Throws Error that names the key.
  void Validate() const;
};

struct LoaderCounts {
  int64_t utterances = 0;
  int64_t skipped = 0;
  // How often each reason was given, file names and numbers left out.
  std::map<std::string, int64_t> reasons;
};

class Loader {
 public:
  // skipped_path: the file that skipped utterances are appended to, one {"id", "audio", "reason"} a line
  // and each id once, also over several runs; empty: none is written.
  Loader(std::vector<Utterance> utterances, Sampler sampler, MakeExample make_example, const LoaderOptions& options,
         const std::string& skipped_path = "");
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch of the epoch, or nullopt when it has ended; the call after that begins the next
  // epoch. Throws Error when too many utterances were skipped.
  std::optional<Batch> Next();

  // The state after the batches that Next has given, and the way back to it. What was made ahead is dropped.
  SamplerState state() const;
  void Seek(const SamplerState& state);

  const Sampler& sampler() const;
  // Since the Loader was made.
  const LoaderCounts& counts() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace earshot
