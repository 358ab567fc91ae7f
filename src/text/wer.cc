#include "src/text/wer.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/text/utf8.h"

namespace earshot {
namespace {

using Ids = std::span<const int32_t>;

// Cells of the edit matrix that are walked back as one; two bits each.
constexpr size_t kMaxCells = size_t{1} << 28U;

// Where the best path into a cell comes from.
enum class Step : uint8_t { kDiagonal = 0, kDeletion = 1, kInsertion = 2 };

class StepMatrix {
 public:
  StepMatrix(size_t rows, size_t columns) : columns_(columns), bits_((rows * columns + 3) / 4, 0) {}
  void Set(size_t row, size_t column, Step step) {
    const size_t cell = row * columns_ + column;
    bits_[cell / 4] |= static_cast<uint8_t>(static_cast<unsigned>(step) << (2 * (cell % 4)));
  }
  Step Get(size_t row, size_t column) const {
    const size_t cell = row * columns_ + column;
    return static_cast<Step>((static_cast<unsigned>(bits_[cell / 4]) >> (2 * (cell % 4))) & 3U);
  }

 private:
  size_t columns_;
  std::vector<uint8_t> bits_;
};

// One row further: from distances to the prefixes of hypothesis with one reference word less.
void NextRow(int32_t word, Ids hypothesis, const std::vector<int32_t>& last, std::vector<int32_t>& row) {
  row[0] = last[0] + 1;
  for (size_t j = 1; j <= hypothesis.size(); ++j) {
    const int32_t diagonal = last[j - 1] + (word == hypothesis[j - 1] ? 0 : 1);
    row[j] = std::min({diagonal, last[j] + 1, row[j - 1] + 1});
  }
}

// Appends the steps of the best path, from the end to the start.
void WalkBack(Ids reference, Ids hypothesis, std::vector<Step>& reversed) {
  const size_t rows = reference.size(), columns = hypothesis.size();
  StepMatrix steps(rows + 1, columns + 1);
  std::vector<int32_t> last(columns + 1), row(columns + 1);
  for (size_t j = 0; j <= columns; ++j) last[j] = static_cast<int32_t>(j);
  for (size_t i = 1; i <= rows; ++i) {
    NextRow(reference[i - 1], hypothesis, last, row);
    for (size_t j = 0; j <= columns; ++j) {
      // The choice among equals is rapidfuzz's, which jiwer counts with: a deletion wherever one is
      // as good; an insertion only where the cell before it is nearer than the diagonal one.
      if (row[j] == last[j] + 1)
        steps.Set(i, j, Step::kDeletion);
      else if (row[j - 1] == last[j - 1] - 1)
        steps.Set(i, j, Step::kInsertion);
    }
    std::swap(last, row);
  }
  for (size_t i = rows, j = columns; i > 0 || j > 0;) {
    const Step step = i == 0 ? Step::kInsertion : steps.Get(i, j);
    reversed.push_back(step);
    if (step != Step::kInsertion) --i;
    if (step != Step::kDeletion) --j;
  }
}

// Distances of reference to every prefix of hypothesis; both read backwards where asked.
std::vector<int32_t> LastRow(Ids reference, Ids hypothesis, bool backwards) {
  std::vector<int32_t> words(hypothesis.begin(), hypothesis.end());
  if (backwards) std::reverse(words.begin(), words.end());
  std::vector<int32_t> last(words.size() + 1), row(words.size() + 1);
  for (size_t j = 0; j < last.size(); ++j) last[j] = static_cast<int32_t>(j);
  for (size_t i = 0; i < reference.size(); ++i) {
    NextRow(backwards ? reference[reference.size() - 1 - i] : reference[i], words, last, row);
    std::swap(last, row);
  }
  return last;
}

// Hirschberg (1975): a matrix that is too large is split where the best path crosses its middle row.
void AlignIds(Ids reference, Ids hypothesis, std::vector<Step>& reversed) {
  if ((reference.size() + 1) <= kMaxCells / (hypothesis.size() + 1) || reference.size() < 2) {
    WalkBack(reference, hypothesis, reversed);
    return;
  }
  const size_t middle = reference.size() / 2;
  const std::vector<int32_t> before = LastRow(reference.first(middle), hypothesis, false);
  const std::vector<int32_t> after = LastRow(reference.subspan(middle), hypothesis, true);
  size_t best = 0;
  for (size_t j = 0; j <= hypothesis.size(); ++j) {
    if (before[j] + after[hypothesis.size() - j] < before[best] + after[hypothesis.size() - best]) best = j;
  }
  AlignIds(reference.subspan(middle), hypothesis.subspan(best), reversed);
  AlignIds(reference.first(middle), hypothesis.first(best), reversed);
}

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

double ErrorCounts::Rate() const {
  return static_cast<double>(errors()) / static_cast<double>(std::max<int64_t>(reference, 1));
}

ErrorCounts& ErrorCounts::operator+=(const ErrorCounts& other) {
  reference += other.reference;
  correct += other.correct;
  substitutions += other.substitutions;
  deletions += other.deletions;
  insertions += other.insertions;
  return *this;
}

std::vector<AlignedPair> AlignWords(std::span<const std::string> reference, std::span<const std::string> hypothesis) {
  std::unordered_map<std::string_view, int32_t> numbers;
  const auto number = [&numbers](const std::string& word) {
    return numbers.emplace(word, static_cast<int32_t>(numbers.size())).first->second;
  };
  std::vector<int32_t> reference_ids(reference.size()), hypothesis_ids(hypothesis.size());
  std::transform(reference.begin(), reference.end(), reference_ids.begin(), number);
  std::transform(hypothesis.begin(), hypothesis.end(), hypothesis_ids.begin(), number);

  // What both begin and end with is taken as correct first, as rapidfuzz does.
  const size_t shorter = std::min(reference.size(), hypothesis.size());
  size_t prefix = 0;
  while (prefix < shorter && reference_ids[prefix] == hypothesis_ids[prefix]) ++prefix;
  size_t suffix = 0;
  while (suffix < shorter - prefix &&
         reference_ids[reference.size() - 1 - suffix] == hypothesis_ids[hypothesis.size() - 1 - suffix])
    ++suffix;

  std::vector<Step> steps(suffix, Step::kDiagonal);
  AlignIds(Ids(reference_ids).subspan(prefix, reference.size() - prefix - suffix),
           Ids(hypothesis_ids).subspan(prefix, hypothesis.size() - prefix - suffix), steps);
  steps.insert(steps.end(), prefix, Step::kDiagonal);
  std::reverse(steps.begin(), steps.end());

  std::vector<AlignedPair> alignment;
  alignment.reserve(steps.size());
  size_t i = 0, j = 0;
  for (const Step step : steps) {
    if (step == Step::kDeletion) {
      alignment.push_back({Edit::kDeletion, reference[i++], ""});
    } else if (step == Step::kInsertion) {
      alignment.push_back({Edit::kInsertion, "", hypothesis[j++]});
    } else {
      const Edit edit = reference_ids[i] == hypothesis_ids[j] ? Edit::kCorrect : Edit::kSubstitution;
      alignment.push_back({edit, reference[i++], hypothesis[j++]});
    }
  }
  return alignment;
}

ErrorCounts CountErrors(std::span<const AlignedPair> alignment) {
  ErrorCounts counts;
  for (const AlignedPair& pair : alignment) {
    counts.reference += pair.edit != Edit::kInsertion;
    counts.correct += pair.edit == Edit::kCorrect;
    counts.substitutions += pair.edit == Edit::kSubstitution;
    counts.deletions += pair.edit == Edit::kDeletion;
    counts.insertions += pair.edit == Edit::kInsertion;
  }
  return counts;
}

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words;
  for (size_t i = 0; i < text.size();) {
    if (IsSpace(text[i])) {
      ++i;
      continue;
    }
    const size_t begin = i;
    while (i < text.size() && !IsSpace(text[i])) ++i;
    words.emplace_back(text.substr(begin, i - begin));
  }
  return words;
}

std::vector<std::string> SplitCharacters(std::string_view text) {
  std::vector<std::string> characters;
  for (const std::string& word : SplitWords(text)) {
    if (!characters.empty()) characters.emplace_back(" ");
    for (const char32_t code_point : DecodeUtf8(word)) AppendUtf8(code_point, characters.emplace_back());
  }
  return characters;
}

ErrorCounts WordErrors(std::string_view reference, std::string_view hypothesis) {
  return CountErrors(AlignWords(SplitWords(reference), SplitWords(hypothesis)));
}

ErrorCounts CharacterErrors(std::string_view reference, std::string_view hypothesis) {
  return CountErrors(AlignWords(SplitCharacters(reference), SplitCharacters(hypothesis)));
}

Interval BootstrapInterval(std::span<const ErrorCounts> per_utterance, int draws, uint64_t seed) {
  EARSHOT_CHECK(draws > 0, "{} draws", draws);
  if (per_utterance.empty()) return {};
  Random random(seed);
  const auto count = static_cast<int64_t>(per_utterance.size());
  std::vector<double> rates(static_cast<size_t>(draws));
  for (double& rate : rates) {
    ErrorCounts total;
    for (int64_t i = 0; i < count; ++i) total += per_utterance[static_cast<size_t>(random.Index(count))];
    rate = total.Rate();
  }
  std::sort(rates.begin(), rates.end());
  const auto percentile = [&rates](double share) {
    return rates[static_cast<size_t>(std::lround(share * static_cast<double>(rates.size() - 1)))];
  };
  return {percentile(0.025), percentile(0.975)};
}

}  // namespace earshot
