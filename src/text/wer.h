// Word and character error rates, with the alignment they are counted on.
//
//   const auto reference = SplitWords("SEVEN OH FOUR"), hypothesis = SplitWords("SEVEN FOUR FOUR");
//   ErrorCounts counts = CountErrors(AlignWords(reference, hypothesis));   // 1 substitution of 3 words
//   total += counts;
//   Interval interval = BootstrapInterval(counts_of_each_utterance, 10000, 0);
//
// The alignment has the fewest edits (Levenshtein 1966). Among several of those, the one that
// PyPI's jiwer reports: its counts are equal, kind by kind. Thread-safe: no state.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace earshot {

struct ErrorCounts {
  // Words (or characters) of the reference: correct + substitutions + deletions.
  int64_t reference = 0;
  int64_t correct = 0;
  int64_t substitutions = 0;
  int64_t deletions = 0;
  int64_t insertions = 0;

  int64_t errors() const { return substitutions + deletions + insertions; }
  // errors / reference: 0.076 is 7.6 %, and more than 1 where much was inserted. Of an empty
  // reference: 0 when nothing was inserted, else the number of insertions.
  double Rate() const;
  ErrorCounts& operator+=(const ErrorCounts& other);
  bool operator==(const ErrorCounts&) const = default;
};

enum class Edit { kCorrect, kSubstitution, kDeletion, kInsertion };

// One column of an alignment. Of a deletion the hypothesis is empty, of an insertion the reference.
struct AlignedPair {
  Edit edit = Edit::kCorrect;
  std::string reference;
  std::string hypothesis;
  bool operator==(const AlignedPair&) const = default;
};

// reference (R), hypothesis (H): words, or characters. Time O(R H), memory O(R + H) and at most 64 MiB
// for the path, so that the transcript of hours can be aligned as one.
std::vector<AlignedPair> AlignWords(std::span<const std::string> reference, std::span<const std::string> hypothesis);

ErrorCounts CountErrors(std::span<const AlignedPair> alignment);

// The words of a text: what stands between white space (that of ASCII).
std::vector<std::string> SplitWords(std::string_view text);

// The characters of a text, one UTF-8 code point each. Spaces count as characters, as jiwer and the
// field's CER have it; runs of them are one, and none stand at the ends.
std::vector<std::string> SplitCharacters(std::string_view text);

// Of WordErrors and CharacterErrors: CountErrors of the alignment of the split texts.
ErrorCounts WordErrors(std::string_view reference, std::string_view hypothesis);
ErrorCounts CharacterErrors(std::string_view reference, std::string_view hypothesis);

struct Interval {
  double low = 0;
  double high = 0;
};

// The 95 % interval of the error rate of a test set: the 2.5 and 97.5 percentiles over `draws` sets of
// as many utterances, drawn with replacement (Bisani and Ney, ICASSP 2004). The same seed gives the
// same interval. {0, 0} for no utterances.
Interval BootstrapInterval(std::span<const ErrorCounts> per_utterance, int draws, uint64_t seed);

}  // namespace earshot
