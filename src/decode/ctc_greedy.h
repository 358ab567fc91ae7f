// Greedy CTC decoding: the best token of each frame, repeats merged, blanks left out.
//
//   CtcGreedyDecoder decoder(tokenizer, 0.04);
//   decoder.Accept(log_probs);                  // (T', V), any number of frames
//   std::vector<Word> words = decoder.TakeWords(final);
//
// Streaming and offline are the same code. Not thread-safe: one for each stream.
#pragma once

#include <torch/types.h>

#include <vector>

#include "src/decode/decoded_token.h"
#include "src/decode/transcript.h"
#include "src/text/tokenizer.h"

namespace earshot {

class CtcGreedyDecoder {
 public:
  // encoder_frame_s: seconds between encoder frames.
  CtcGreedyDecoder(Tokenizer tokenizer, double encoder_frame_s)
      : tokenizer_(std::move(tokenizer)), frame_s_(encoder_frame_s) {}

  // log_probs: (T', V) float, the next frames.
  void Accept(const torch::Tensor& log_probs);
  // The words that are complete; with `final` (the end of the input, or of a segment) also the last one. Each word is
  // given once.
  std::vector<Word> TakeWords(bool final);
  // The tokens that no TakeWords has taken yet.
  const std::vector<DecodedToken>& tokens() const { return tokens_; }
  // Frames since the last whose best token was not blank.
  int64_t trailing_blanks() const { return trailing_blanks_; }

 private:
  Tokenizer tokenizer_;
  double frame_s_;
  int64_t frame_ = 0;
  int last_ = 0;  // best token of the last frame
  int64_t trailing_blanks_ = 0;
  std::vector<DecodedToken> tokens_;
};

// The text of (T', V) log probabilities.
std::string CtcGreedyText(const torch::Tensor& log_probs, const Tokenizer& tokenizer);

}  // namespace earshot
