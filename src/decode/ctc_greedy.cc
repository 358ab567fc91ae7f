#include "src/decode/ctc_greedy.h"

#include <cmath>

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
  }
}

Word CtcGreedyDecoder::MakeWord(size_t first, size_t last) const {
  std::vector<int> ids;
  double confidence = 0;
  for (size_t i = first; i < last; ++i) {
    ids.push_back(tokens_[i].token);
    confidence += tokens_[i].confidence;
  }
  return {.text = tokenizer_.Decode(ids),
          .start_s = static_cast<double>(tokens_[first].start_frame) * frame_s_,
          .end_s = static_cast<double>(tokens_[last - 1].end_frame) * frame_s_,
          .confidence = static_cast<float>(confidence / static_cast<double>(last - first))};
}

std::vector<Word> CtcGreedyDecoder::TakeWords(bool final) {
  std::vector<Word> words;
  size_t first = 0;
  for (size_t i = 1; i <= tokens_.size(); ++i) {
    const bool at_end = i == tokens_.size();
    if (at_end ? !final : !tokenizer_.StartsWord(tokens_[i].token)) continue;
    Word word = MakeWord(first, i);
    if (!word.text.empty()) words.push_back(std::move(word));
    first = i;
  }
  // A token that may still grow stays, with last_, for the next Accept.
  tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(first));
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
