// Words into segments that a reader can take in at once: cut at pauses, and where a segment would
// grow too long to read or to show.
//
//   Segmenter segmenter({.pause_s = 0.8});
//   for (Word& word : words)
//     for (Segment& segment : segmenter.AcceptWord(std::move(word))) Show(segment);
//   for (Segment& segment : segmenter.InputFinished()) Show(segment);
//
//   std::vector<Segment> segments = SegmentWords(words, {});  // the same, of a finished recording
//
// Holds at most one segment's words, so a stream may be endless. Not thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/base/options.h"
#include "src/decode/transcript.h"

namespace earshot {

struct SegmenterOptions {
  // A silence between two words that ends a segment, in seconds. Breaths between phrases last 0.2 to
  // 0.6 s; what is longer stands between sentences. 0: every gap ends one.
  double pause_s = 0.8;
  // Characters (code points) of a line and lines of a segment. 42 by 2 is what broadcasters' subtitle
  // guides agree on for Latin scripts. 0 characters: no limit.
  int line_characters = 42;
  int max_lines = 2;
  // Longest segment in seconds: nobody reads two lines for longer than 7 s. 0: no limit.
  double max_duration_s = 7;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

class Segmenter {
 public:
  // Throws Error when the options are not valid.
  explicit Segmenter(const SegmenterOptions& options);

  // Words come in the order of their start. Returns the segments that this word closed, in order;
  // mostly none. A limit that the word would break cuts the words held, at the best place in their
  // later half: the longest pause, or where a sentence ends. A word that is over a limit by itself
  // makes a segment of its own.
  std::vector<Segment> AcceptWord(Word word);

  // What is still held, and ready for the next recording.
  std::vector<Segment> InputFinished();

 private:
  bool Fits(const Word& next) const;
  size_t BestCut(const Word& next) const;
  Segment Take(size_t num_words);

  SegmenterOptions options_;
  std::vector<Word> held_;
};

std::vector<Segment> SegmentWords(const std::vector<Word>& words, const SegmenterOptions& options);

// The words with one space between, in lines of at most line_characters code points (0: one line);
// a longer word has a line to itself. Fills each line before the next, so there are as few as can be.
std::vector<std::string> WrapWords(const std::vector<Word>& words, int line_characters);

// Code points of UTF-8 text; a byte that does not belong counts as none.
int CountCharacters(std::string_view text);

}  // namespace earshot
