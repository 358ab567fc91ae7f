// What recognition gives: words with times, grouped into segments that a reader could take in at once.
#pragma once

#include <string>
#include <vector>

namespace earshot {

// Times in seconds from the start of the recording.
struct Word {
  std::string text;
  double start_s = 0;
  double end_s = 0;
  // In [0, 1]: the mean posterior of the word's tokens.
  float confidence = 0;
};

struct Segment {
  double start_s = 0;
  double end_s = 0;
  std::string text;
  std::vector<Word> words;
};

struct Transcript {
  std::string text;
  std::vector<Segment> segments;
  // Of the whole recording, silence included.
  double duration_s = 0;
};

}  // namespace earshot
