// What a network is, as recipes write it and as it stands in the model folder's config.yaml.
#pragma once

#include <string>
#include <vector>

#include "src/base/options.h"
#include "src/frontend/feature_options.h"
#include "src/nn/encoder.h"

namespace earshot {

struct CtcHeadOptions {
  // Dropout in front of the head.
  double dropout = 0.1;
  // Feed the intermediate predictions back into the encoder (Nozaki & Komatsu 2021); needs
  // encoder.intermediate_layers.
  bool self_conditioning = false;
  // A second head for the frame loss of training (train.loss.frame_weight). Not stored with the finished model.
  bool frame_head = false;
  // Recognition takes this from the blank's logit: fewer deletions for more insertions. Chosen on dev.
  double blank_penalty = 0;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

// Dynamic chunk training (Zhang et al. 2020, U2): each batch is seen with another reach, so that one model serves any
// latency. All in encoder frames.
struct DynamicChunkOptions {
  // Share of the batches that are seen in chunks; the others with encoder.pattern as it is. 0: the model knows one
  // latency alone, that of its pattern.
  double probability = 0;
  // The chunk's frames are drawn between these, each doubling as likely as the next.
  int min_frames = 1;
  int max_frames = 32;
  // Frames before the chunk are one of these.
  std::vector<int> left_frames = {96};
  // Frames of right context (see Reach) are one of these, and no more than the chunk has.
  std::vector<int> right_frames = {0};
  // What a stream keeps before its chunk: the most of left_frames; a bounded 512 where one of them is all (-1).
  int64_t StreamLeftFrames() const;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

struct ModelConfig {
  FeatureOptions features;
  EncoderOptions encoder;
  DynamicChunkOptions dynamic_chunk;
  CtcHeadOptions ctc;
  // Encoder frames of digital silence that recognition puts before and after a recording, so that a word at
  // its very edge is heard as the words of training are, with a rest round them. Times are those of the recording.
  int edge_padding_frames = 0;
  // Tokens of the tokenizer; 0 in a recipe, where it follows from the tokenizer.
  int vocab_size = 0;
  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

}  // namespace earshot
