#include "tools/cli/alignment_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/text/utf8.h"
#include "src/text/wer.h"

namespace earshot {
namespace {

constexpr size_t kRowCharacters = 110;

// `width` code points wide, filled up with fill or spaces.
std::string Cell(const std::string& text, size_t width, char fill) {
  const size_t length = DecodeUtf8(text).size();
  return text.empty() ? std::string(width, fill) : text + std::string(width - std::min(width, length), ' ');
}

std::string Letter(Edit edit) {
  switch (edit) {
    case Edit::kCorrect: return "";
    case Edit::kSubstitution: return "S";
    case Edit::kDeletion: return "D";
    case Edit::kInsertion: return "I";
  }
  return "";
}

std::string Trimmed(std::string row) {
  row.erase(row.find_last_not_of(' ') + 1);
  return row;
}

std::vector<AlignedPair> Align(const ReportedUtterance& utterance) {
  return AlignWords(SplitWords(utterance.reference), SplitWords(utterance.hypothesis));
}

}  // namespace

std::string FormatAlignment(const ReportedUtterance& utterance) {
  const std::vector<AlignedPair> pairs = Align(utterance);
  const ErrorCounts counts = CountErrors(pairs);
  std::string text = fmt::format("{}  {} error{} of {} words\n", utterance.id, counts.errors(),
                                 counts.errors() == 1 ? "" : "s", counts.reference);
  std::string reference, hypothesis, edits;
  size_t used = 0;
  const auto end_row = [&] {
    text += Trimmed("REF: " + reference) + "\n" + Trimmed("HYP: " + hypothesis) + "\n";
    if (const std::string row = Trimmed("     " + edits); !row.empty()) text += row + "\n";
    reference = hypothesis = edits = "";
    used = 0;
  };
  for (const AlignedPair& pair : pairs) {
    const size_t width = std::max(DecodeUtf8(pair.reference).size(), DecodeUtf8(pair.hypothesis).size());
    if (used > 0 && used + width > kRowCharacters) end_row();
    reference += Cell(pair.reference, width, '*') + ' ';
    hypothesis += Cell(pair.hypothesis, width, '*') + ' ';
    edits += Cell(Letter(pair.edit), width, ' ') + ' ';
    used += width + 1;
  }
  end_row();
  return text;
}

void WriteAlignmentReport(const std::string& path, std::span<const ReportedUtterance> utterances) {
  std::vector<ErrorCounts> counts;
  for (const ReportedUtterance& utterance : utterances) counts.push_back(CountErrors(Align(utterance)));
  std::vector<size_t> order(utterances.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (counts[a].errors() != counts[b].errors()) return counts[a].errors() > counts[b].errors();
    return counts[a].Rate() > counts[b].Rate();
  });
  AtomicFile file(path);
  for (const size_t i : order) file.stream() << FormatAlignment(utterances[i]) << "\n";
  file.Commit();
}

}  // namespace earshot
