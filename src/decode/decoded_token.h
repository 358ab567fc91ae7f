// Tokens with their frames, and the words that they make.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/decode/transcript.h"
#include "src/text/tokenizer.h"

namespace earshot {

// One token as decoded: frames [start, end) in which it is the best, and its mean probability there.
struct DecodedToken {
  int token = 0;
  int64_t start_frame = 0;
  int64_t end_frame = 0;
  float confidence = 0;
};

// All words of the tokens, the last one as far as it goes. A word's confidence is the mean of its tokens'.
// encoder_frame_s: seconds between encoder frames.
std::vector<Word> WordsOf(std::span<const DecodedToken> tokens, const Tokenizer& tokenizer, double encoder_frame_s);

// The place of the first token of the last word; 0 where there is none.
size_t LastWordBegin(std::span<const DecodedToken> tokens, const Tokenizer& tokenizer);

}  // namespace earshot
