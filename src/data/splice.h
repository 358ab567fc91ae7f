// New training utterances from old ones: words of different recordings joined, or whole recordings.
//
//   Splicer splicer(options, utterances, 16000, read_samples);
//   if (std::optional<SplicedAudio> spliced = splicer.Draw(utterance, random)) Use(spliced->samples, spliced->text);
//
// A small corpus has few word sequences; splicing shows the model others, so that it learns to hear each word
// rather than to know the sentence (aligned data augmentation: Lam et al., Interspeech 2021, arXiv:2104.01393;
// whole utterances: Lam et al. 2022, arXiv:2210.15398).
// Alignments come from a file, one line an utterance, times in seconds from the utterance's start:
//   {"id": "an4-fash-1", "words": [{"word": "YES", "start": 0.41, "end": 0.73}, ...]}
// as `earshot align` writes it from a CTC model. A piece keeps a part, drawn anew each time, of the silence round it.
// Such times are rough, so each cut is moved to the point of least energy near by, and neighbours are cross-faded.
//
// Immutable and thread-safe; read_samples is called by several threads at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/base/options.h"
#include "src/base/random.h"
#include "src/data/manifest.h"

namespace earshot {

struct SpliceOptions {
  // Word alignments of the training utterances. Empty: nothing is cut, only whole utterances are joined.
  std::string alignments = "";
  // Share of the utterances that are replaced by a splice of words.
  double probability = 0;
  // Share of these splices that keep the text of the utterance at hand, each word spoken as somewhere else in the
  // corpus. The others have a new text: spans of words from anywhere, one after the other.
  double transcript_share = 0;
  // Words of a new text; the number is drawn evenly between them. max_words 0: as many as the utterance at
  // hand has, one more or one less, so that it still fits its duration bucket.
  int min_words = 1;
  int max_words = 0;
  // Most neighbouring words taken from one recording in one piece. 1: every word is a piece.
  int max_span_words = 2;
  // How much rare words are preferred where a piece of a new text begins: one that the corpus has n times is drawn
  // as n^(1 - balance). 0: as often as it is spoken; 1: all alike.
  double balance = 0;
  // How often all pieces come from the speaker of the utterance at hand, where speakers are known.
  double same_speaker_probability = 0.5;
  // How far a cut may move from the aligned boundary in search of the least energy.
  double search_ms = 60;
  // Neighbouring pieces overlap by this much and fade into each other.
  double crossfade_ms = 8;
  // Share of the utterances to which whole others are appended; counted before `probability`.
  double concat_probability = 0;
  // Most utterances in a concatenation, the one at hand among them.
  int concat_max_utterances = 3;
  // Whether a piece is brought to the level of the first, by the mean squares of their recordings.
  bool match_level = true;
  // No splice grows longer than this.
  double max_duration_s = 20;

  void Visit(OptionVisitor& visitor);
  // Throws Error that names the key.
  void Validate() const;
};

// A word with its time in the audio, in seconds.
struct AlignedWord {
  std::string text;
  double start_s = 0;
  double end_s = 0;
};

struct SplicedAudio {
  // (S) mono, at the rate of the Splicer.
  std::vector<float> samples;
  std::string text;
  // The words of the text, where all of them are aligned; else empty.
  std::vector<AlignedWord> words;
};

// The samples of an utterance at the Splicer's rate; throws Error when it cannot be read.
using ReadSamples = std::function<std::vector<float>(const Utterance&)>;

class Splicer {
 public:
  // utterances: what may be drawn from. Throws Error when the alignments cannot be read, name no
  // utterance of these, or have times that run backwards; the message names file and line.
  Splicer(const SpliceOptions& options, std::vector<Utterance> utterances, int sample_rate, ReadSamples read_samples);

  // What to use in place of this utterance; nullopt, as often as the options say: the utterance itself.
  // Throws Error when a recording that was drawn cannot be read.
  std::optional<SplicedAudio> Draw(const Utterance& utterance, Random& random) const;

  // The two that Draw chooses from. nullopt when this utterance gives nothing to splice.
  std::optional<SplicedAudio> DrawWords(const Utterance& utterance, Random& random) const;
  std::optional<SplicedAudio> DrawUtterances(const Utterance& utterance, Random& random) const;

  // The alignment of one of its utterances; nullptr when there is none.
  const std::vector<AlignedWord>* Words(const std::string& utterance_id) const;

 private:
  // A run of neighbouring words of one utterance.
  struct Span {
    size_t utterance;
    size_t first;
    size_t count;
  };
  // Where a piece may begin.
  struct Place {
    size_t utterance;
    size_t word;
  };
  // Places to draw from, each as often as its weight says.
  struct Pool {
    std::vector<Place> places;
    std::vector<double> ends;  // running total of the weights
    void Add(Place place, double weight);
    // Undefined for an empty pool.
    Place Pick(Random& random) const;
  };
  struct Pools {
    Pool all;
    std::unordered_map<std::string, Pool> of_speaker;
    // That of the speaker, where there is one.
    const Pool& Of(const std::string& speaker, bool same_speaker) const;
  };

  void LoadAlignments();
  std::vector<Span> RandomSpans(const Utterance& utterance, Random& random) const;
  std::vector<Span> TranscriptSpans(const Utterance& utterance, Random& random) const;
  std::pair<int64_t, int64_t> Cut(const std::vector<float>& samples, const Span& span, Random& random) const;
  int64_t Append(std::vector<float> piece, double level, SplicedAudio& spliced, double& first_level) const;

  SpliceOptions options_;
  std::vector<Utterance> utterances_;
  int sample_rate_;
  ReadSamples read_samples_;
  // Of each utterance; empty where it has no alignment.
  std::vector<std::vector<AlignedWord>> words_;
  std::unordered_map<std::string, size_t> aligned_index_;
  Pools aligned_, whole_;
  // Where each word is spoken; for splices that keep the text.
  std::unordered_map<std::string, std::vector<Span>> places_;
};

}  // namespace earshot
