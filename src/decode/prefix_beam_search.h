// CTC prefix beam search (Hannun et al. 2014, algorithm 1, without a language model): the best texts rather than the
// best path, each the sum over all its paths.
//
//   PrefixBeamSearch search(tokenizer, 0.04, {.beam_size = 8});
//
// A prefix that all that are left begin with can never change: so many of its words are stable. See stream_decoder.h.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "src/decode/decoded_token.h"
#include "src/decode/stream_decoder.h"

namespace earshot {

class PrefixBeamSearch : public StreamDecoder {
 public:
  PrefixBeamSearch(Tokenizer tokenizer, double encoder_frame_s, const DecoderOptions& options);

  void Accept(const torch::Tensor& log_probs) override;
  const std::vector<Word>& words() const override { return words_; }
  size_t stable_words() const override { return stable_words_; }
  int64_t trailing_blanks() const override { return trailing_blanks_; }
  std::vector<Word> Finish() override;

  // Log probability of the best prefix, all paths together.
  double best_score() const;

 private:
  // A prefix is the way from the root (-1) to a node.
  struct Node {
    int parent = -1;
    int depth = 1;
    DecodedToken token;
  };
  struct Prefix {
    int node = -1;
    double blank = 0, other = 0;  // log probability of the paths that end in blank, and in the last token
    double Total() const;
  };

  void AcceptFrame(const float* log_probs, int64_t num_tokens);
  // The prefix of `node` among those of the next frame.
  Prefix& Next(int node);
  int Child(int node, int token, float probability);
  void UpdateWords();
  std::vector<DecodedToken> TokensOf(int node) const;

  Tokenizer tokenizer_;
  double frame_s_;
  DecoderOptions options_;
  int64_t frame_ = 0;
  int64_t trailing_blanks_ = 0;
  std::vector<Node> nodes_;
  std::unordered_map<int64_t, int> children_;  // (node, token) -> node
  std::vector<Prefix> prefixes_, next_;        // best first
  std::unordered_map<int, size_t> place_;      // of a node in next_
  std::vector<Word> words_;
  size_t stable_words_ = 0;
};

}  // namespace earshot
