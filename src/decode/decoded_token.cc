#include "src/decode/decoded_token.h"

#include <utility>

namespace earshot {
namespace {

Word MakeWord(std::span<const DecodedToken> tokens, const Tokenizer& tokenizer, double frame_s) {
  std::vector<int> ids;
  double confidence = 0;
  for (const DecodedToken& token : tokens) {
    ids.push_back(token.token);
    confidence += token.confidence;
  }
  return {.text = tokenizer.Decode(ids),
          .start_s = static_cast<double>(tokens.front().start_frame) * frame_s,
          .end_s = static_cast<double>(tokens.back().end_frame) * frame_s,
          .confidence = static_cast<float>(confidence / static_cast<double>(tokens.size()))};
}

}  // namespace

std::vector<Word> WordsOf(std::span<const DecodedToken> tokens, const Tokenizer& tokenizer, double encoder_frame_s) {
  std::vector<Word> words;
  for (size_t first = 0, i = 1; i <= tokens.size(); ++i) {
    if (i < tokens.size() && !tokenizer.StartsWord(tokens[i].token)) continue;
    Word word = MakeWord(tokens.subspan(first, i - first), tokenizer, encoder_frame_s);
    if (!word.text.empty()) words.push_back(std::move(word));
    first = i;
  }
  return words;
}

size_t LastWordBegin(std::span<const DecodedToken> tokens, const Tokenizer& tokenizer) {
  for (size_t i = tokens.size(); i > 0; --i) {
    if (tokenizer.StartsWord(tokens[i - 1].token)) return i - 1;
  }
  return 0;
}

}  // namespace earshot
