// Words out of the frames of a stream, with a guess at what is not finished.
//
//   std::unique_ptr<StreamDecoder> decoder = MakeStreamDecoder(tokenizer, 0.04, {.beam_size = 8});
//   decoder->Accept(log_probs);                                // (T', V), any number of frames
//   Show(decoder->words(), decoder->stable_words());           // the first so many never change
//   std::vector<Word> words = decoder->Finish();               // an endpoint: all of them, and the next segment begins
//
// State grows with the segment alone. Not thread-safe: one for each stream.
#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "src/base/options.h"
#include "src/decode/transcript.h"
#include "src/text/tokenizer.h"

namespace earshot {

struct DecoderOptions {
  // Prefixes that prefix beam search keeps (see prefix_beam_search.h). 1: greedy, the best token of each frame.
  int beam_size = 1;
  // Prefix beam search: tokens of a frame that may go on a prefix, the best ones.
  int tokens_per_frame = 8;
  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;
  // log_probs: (T', V) float, the next frames.
  virtual void Accept(const torch::Tensor& log_probs) = 0;
  // The words since the last Finish, times from the start of the stream; the last one may still grow.
  virtual const std::vector<Word>& words() const = 0;
  // How many of words() are known for good.
  virtual size_t stable_words() const = 0;
  // Frames since the last that was not the blank's; all, where none was.
  virtual int64_t trailing_blanks() const = 0;
  // words(), now final. The next frame begins anew, its time goes on.
  virtual std::vector<Word> Finish() = 0;
};

std::unique_ptr<StreamDecoder> MakeStreamDecoder(const Tokenizer& tokenizer, double encoder_frame_s,
                                                 const DecoderOptions& options);

}  // namespace earshot
