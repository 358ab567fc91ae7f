#include "src/decode/ctc_greedy.h"

#include <cmath>
#include <span>

namespace earshot {

void CtcGreedyDecoder::Accept(const torch::Tensor& log_probs) {
  if (log_probs.size(0) == 0) return;
  const auto [values, indices] = log_probs.to(torch::kCPU, torch::kFloat).max(1);
  const torch::Tensor best = indices.contiguous(), scores = values.contiguous();
  for (int64_t t = 0; t < best.size(0); ++t, ++frame_) {
    const int token = static_cast<int>(best.data_ptr<int64_t>()[t]);
    const float probability = std::exp(scores.data_ptr<float>()[t]);
    if (token == last_ && token != tokenizer_.blank_id()) {
      DecodedToken& same = tokens_.back();
      const auto frames = static_cast<float>(same.end_frame - same.start_frame);
      same.confidence = (same.confidence * frames + probability) / (frames + 1);
      same.end_frame = frame_ + 1;
    } else if (token != tokenizer_.blank_id()) {
      tokens_.push_back({token, frame_, frame_ + 1, probability});
    }
    last_ = token;
    trailing_blanks_ = token == tokenizer_.blank_id() ? trailing_blanks_ + 1 : 0;
  }
}

std::vector<Word> CtcGreedyDecoder::TakeWords(bool final) {
  const size_t count = final ? tokens_.size() : LastWordBegin(tokens_, tokenizer_);
  std::vector<Word> words = WordsOf(std::span(tokens_).first(count), tokenizer_, frame_s_);
  // A token that may still grow stays, with last_, for the next Accept.
  tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(count));
  if (final) last_ = tokenizer_.blank_id();
  return words;
}

std::string CtcGreedyText(const torch::Tensor& log_probs, const Tokenizer& tokenizer) {
  CtcGreedyDecoder decoder(tokenizer, 1.0);
  decoder.Accept(log_probs);
  std::vector<int> ids;
  for (const DecodedToken& token : decoder.tokens()) ids.push_back(token.token);
  return tokenizer.Decode(ids);
}

}  // namespace earshot
