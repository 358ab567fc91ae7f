// Forced alignment by CTC: where in an utterance each token of a known text is spoken.
#pragma once

#include <torch/types.h>

#include <optional>
#include <vector>

#include "src/decode/transcript.h"
#include "src/text/tokenizer.h"

namespace earshot {

// Frames [start, end) of each token.
struct AlignedToken {
  int token = 0;
  int64_t start_frame = 0;
  int64_t end_frame = 0;
  // Mean probability over its frames.
  float confidence = 0;
};

// The best path through the CTC lattice of tokens (Viterbi over 2U + 1 states). log_probs: (T', V) float.
// nullopt when T' frames cannot hold the tokens (repeats need a blank between them).
std::optional<std::vector<AlignedToken>> AlignCtc(const torch::Tensor& log_probs, const std::vector<int>& tokens,
                                                  int blank_id);

// The words of the text with their times. CTC gives a token few frames and the blanks between words belong to nobody,
// so the word ends where its last token ends.
std::vector<Word> AlignedWords(const std::vector<AlignedToken>& tokens, const Tokenizer& tokenizer,
                               double encoder_frame_s);

}  // namespace earshot
