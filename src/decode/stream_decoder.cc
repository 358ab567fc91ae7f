#include "src/decode/stream_decoder.h"

#include <utility>

#include "src/base/error.h"
#include "src/decode/ctc_greedy.h"
#include "src/decode/prefix_beam_search.h"

namespace earshot {
namespace {

// What greedy decoding has said stays said; only the last word may grow.
class GreedyStreamDecoder : public StreamDecoder {
 public:
  GreedyStreamDecoder(const Tokenizer& tokenizer, double encoder_frame_s)
      : tokenizer_(tokenizer), frame_s_(encoder_frame_s), greedy_(tokenizer, encoder_frame_s) {}

  void Accept(const torch::Tensor& log_probs) override {
    greedy_.Accept(log_probs);
    words_.resize(stable_words_);
    for (Word& word : greedy_.TakeWords(false)) words_.push_back(std::move(word));
    stable_words_ = words_.size();
    for (Word& word : WordsOf(greedy_.tokens(), tokenizer_, frame_s_)) words_.push_back(std::move(word));
  }

  const std::vector<Word>& words() const override { return words_; }
  size_t stable_words() const override { return stable_words_; }
  int64_t trailing_blanks() const override { return greedy_.trailing_blanks(); }

  std::vector<Word> Finish() override {
    greedy_.TakeWords(true);
    stable_words_ = 0;
    return std::exchange(words_, {});
  }

 private:
  Tokenizer tokenizer_;
  double frame_s_;
  CtcGreedyDecoder greedy_;
  std::vector<Word> words_;
  size_t stable_words_ = 0;
};

}  // namespace

void DecoderOptions::Visit(OptionVisitor& v) {
  v.Field("beam_size", beam_size);
  v.Field("tokens_per_frame", tokens_per_frame);
}

void DecoderOptions::Validate() const {
  if (beam_size < 1 || beam_size > 1000) Throw("decoder.beam_size is {}, expected 1 to 1000", beam_size);
  if (tokens_per_frame < 2) Throw("decoder.tokens_per_frame is {}, expected 2 or more", tokens_per_frame);
}

std::unique_ptr<StreamDecoder> MakeStreamDecoder(const Tokenizer& tokenizer, double encoder_frame_s,
                                                 const DecoderOptions& options) {
  options.Validate();
  if (options.beam_size == 1) return std::make_unique<GreedyStreamDecoder>(tokenizer, encoder_frame_s);
  return std::make_unique<PrefixBeamSearch>(tokenizer, encoder_frame_s, options);
}

}  // namespace earshot
