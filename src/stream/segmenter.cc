#include "src/stream/segmenter.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

bool EndsWithOneOf(std::string_view text, std::string_view marks) {
  return !text.empty() && marks.find(text.back()) != std::string_view::npos;
}

// How good it is to cut between two words: seconds of pause, to which a mark of punctuation adds what
// a speaker's pause there would be worth.
double CutScore(const Word& before, const Word& after) {
  double score = std::max(0.0, after.start_s - before.end_s);
  if (EndsWithOneOf(before.text, ".?!")) {
    score += 1.0;
  } else if (EndsWithOneOf(before.text, ",;:")) {
    score += 0.3;
  }
  return score;
}

}  // namespace

void SegmenterOptions::Visit(OptionVisitor& v) {
  v.Field("pause_s", pause_s);
  v.Field("line_characters", line_characters);
  v.Field("max_lines", max_lines);
  v.Field("max_duration_s", max_duration_s);
}

void SegmenterOptions::Validate() const {
  if (!(pause_s >= 0)) Throw("pause_s: {} s, expected 0 or more", pause_s);
  if (line_characters < 0) Throw("line_characters: {}, expected 0 (no limit) or more", line_characters);
  if (max_lines < 1) Throw("max_lines: {}, expected 1 or more", max_lines);
  if (!(max_duration_s >= 0)) Throw("max_duration_s: {} s, expected 0 (no limit) or more", max_duration_s);
}

Segmenter::Segmenter(const SegmenterOptions& options) : options_(options) { options_.Validate(); }

std::vector<Segment> Segmenter::AcceptWord(Word word) {
  std::vector<Segment> closed;
  if (!held_.empty() && word.start_s - held_.back().end_s >= options_.pause_s) closed.push_back(Take(held_.size()));
  while (!held_.empty() && !Fits(word)) closed.push_back(Take(BestCut(word)));
  held_.push_back(std::move(word));
  return closed;
}

std::vector<Segment> Segmenter::InputFinished() {
  std::vector<Segment> closed;
  if (!held_.empty()) closed.push_back(Take(held_.size()));
  return closed;
}

bool Segmenter::Fits(const Word& next) const {
  if (options_.max_duration_s > 0 && next.end_s - held_.front().start_s > options_.max_duration_s) return false;
  if (options_.line_characters == 0) return true;
  std::vector<Word> with_next = held_;
  with_next.push_back(next);
  return WrapWords(with_next, options_.line_characters).size() <= static_cast<size_t>(options_.max_lines);
}

size_t Segmenter::BestCut(const Word& next) const {
  // What a full segment is worth against a half full one, in seconds of pause: small steps between
  // words must not leave lines short.
  constexpr double kFullness_s = 0.4;
  size_t best = held_.size();
  double best_score = -1;
  for (size_t cut = held_.size() / 2 + 1; cut <= held_.size(); ++cut) {
    const Word& after = cut < held_.size() ? held_[cut] : next;
    const double fullness = static_cast<double>(cut) / static_cast<double>(held_.size());
    const double score = CutScore(held_[cut - 1], after) + kFullness_s * fullness;
    if (score < best_score) continue;
    best = cut;
    best_score = score;
  }
  return best;
}

Segment Segmenter::Take(size_t num_words) {
  const auto end = held_.begin() + static_cast<std::ptrdiff_t>(num_words);
  Segment segment;
  segment.words.assign(std::make_move_iterator(held_.begin()), std::make_move_iterator(end));
  held_.erase(held_.begin(), end);
  segment.start_s = segment.words.front().start_s;
  for (const Word& word : segment.words) {
    segment.end_s = std::max(segment.end_s, word.end_s);
    if (!segment.text.empty()) segment.text += ' ';
    segment.text += word.text;
  }
  return segment;
}

std::vector<Segment> SegmentWords(const std::vector<Word>& words, const SegmenterOptions& options) {
  Segmenter segmenter(options);
  std::vector<Segment> segments;
  const auto append = [&](std::vector<Segment> closed) {
    segments.insert(segments.end(), std::make_move_iterator(closed.begin()), std::make_move_iterator(closed.end()));
  };
  for (const Word& word : words) append(segmenter.AcceptWord(word));
  append(segmenter.InputFinished());
  return segments;
}

std::vector<std::string> WrapWords(const std::vector<Word>& words, int line_characters) {
  std::vector<std::string> lines;
  int used = 0;
  for (const Word& word : words) {
    const int length = CountCharacters(word.text);
    if (lines.empty() || (line_characters > 0 && used + 1 + length > line_characters)) {
      lines.push_back(word.text);
      used = length;
    } else {
      lines.back() += ' ' + word.text;
      used += 1 + length;
    }
  }
  return lines;
}

int CountCharacters(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace earshot
