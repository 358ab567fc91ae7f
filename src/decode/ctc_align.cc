#include "src/decode/ctc_align.h"

#include <cmath>
#include <limits>

namespace earshot {

std::optional<std::vector<AlignedToken>> AlignCtc(const torch::Tensor& log_probs, const std::vector<int>& tokens,
                                                  int blank_id) {
  const torch::Tensor scores = log_probs.to(torch::kCPU, torch::kFloat).contiguous();
  const int64_t frames = scores.size(0), vocab = scores.size(1);
  const auto states = static_cast<int64_t>(2 * tokens.size() + 1);
  if (tokens.empty()) return std::vector<AlignedToken>();
  if (frames == 0) return std::nullopt;
  // Even states are blanks, odd ones tokens.
  const auto label = [&](int64_t s) { return s % 2 == 0 ? blank_id : tokens[static_cast<size_t>(s / 2)]; };
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  std::vector<float> best(static_cast<size_t>(states), kNever), next(best);
  std::vector<int8_t> back(static_cast<size_t>(frames * states), 0);
  const float* row = scores.data_ptr<float>();
  best[0] = row[blank_id];
  best[1] = row[label(1)];
  for (int64_t t = 1; t < frames; ++t) {
    row += vocab;
    for (int64_t s = 0; s < states; ++s) {
      const auto at = static_cast<size_t>(s);
      float score = best[at];
      int8_t step = 0;
      if (s > 0 && best[at - 1] > score) {
        score = best[at - 1];
        step = 1;
      }
      // A blank between two different tokens may be left out.
      if (s > 1 && s % 2 == 1 && label(s) != label(s - 2) && best[at - 2] > score) {
        score = best[at - 2];
        step = 2;
      }
      next[at] = score + row[label(s)];
      back[static_cast<size_t>(t * states + s)] = step;
    }
    std::swap(best, next);
  }
  int64_t state =
      best[static_cast<size_t>(states - 1)] >= best[static_cast<size_t>(states - 2)] ? states - 1 : states - 2;
  if (best[static_cast<size_t>(state)] == kNever) return std::nullopt;
  std::vector<AlignedToken> aligned(tokens.size());
  for (int64_t t = frames - 1; t >= 0; --t) {
    if (state % 2 == 1) {
      AlignedToken& token = aligned[static_cast<size_t>(state / 2)];
      if (token.end_frame == 0) token = {label(state), t, t + 1, 0};
      token.start_frame = t;
      token.confidence += std::exp(scores.data_ptr<float>()[t * vocab + label(state)]);
    }
    state -= back[static_cast<size_t>(t * states + state)];
  }
  for (AlignedToken& token : aligned) token.confidence /= static_cast<float>(token.end_frame - token.start_frame);
  return aligned;
}

std::vector<Word> AlignedWords(const std::vector<AlignedToken>& tokens, const Tokenizer& tokenizer,
                               double encoder_frame_s) {
  std::vector<Word> words;
  for (size_t first = 0; first < tokens.size();) {
    size_t last = first + 1;
    while (last < tokens.size() && !tokenizer.StartsWord(tokens[last].token)) ++last;
    std::vector<int> ids;
    float confidence = 0;
    for (size_t i = first; i < last; ++i) {
      ids.push_back(tokens[i].token);
      confidence += tokens[i].confidence;
    }
    words.push_back({.text = tokenizer.Decode(ids),
                     .start_s = static_cast<double>(tokens[first].start_frame) * encoder_frame_s,
                     .end_s = static_cast<double>(tokens[last - 1].end_frame) * encoder_frame_s,
                     .confidence = confidence / static_cast<float>(last - first)});
    first = last;
  }
  return words;
}

}  // namespace earshot
