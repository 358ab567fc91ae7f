#include "src/model/config.h"

#include <algorithm>

#include "src/base/error.h"

namespace earshot {

void CtcHeadOptions::Visit(OptionVisitor& v) {
  v.Field("dropout", dropout);
  v.Field("self_conditioning", self_conditioning);
  v.Field("frame_head", frame_head);
  v.Field("blank_penalty", blank_penalty);
}

void CtcHeadOptions::Validate() const {
  if (!(dropout >= 0 && dropout < 1)) Throw("ctc.dropout is {}, expected at least 0 and below 1", dropout);
  if (!(blank_penalty >= -20 && blank_penalty <= 20))
    Throw("ctc.blank_penalty is {}, expected between -20 and 20", blank_penalty);
}

int64_t DynamicChunkOptions::StreamLeftFrames() const {
  const bool all = std::find(left_frames.begin(), left_frames.end(), -1) != left_frames.end();
  return all ? 512 : *std::max_element(left_frames.begin(), left_frames.end());
}

void DynamicChunkOptions::Visit(OptionVisitor& v) {
  v.Field("probability", probability);
  v.Field("min_frames", min_frames);
  v.Field("max_frames", max_frames);
  v.Field("left_frames", left_frames);
  v.Field("right_frames", right_frames);
}

void DynamicChunkOptions::Validate() const {
  if (!(probability >= 0 && probability <= 1))
    Throw("dynamic_chunk.probability is {}, expected between 0 and 1", probability);
  if (min_frames < 1 || max_frames < min_frames)
    Throw("dynamic_chunk: min_frames is {}, max_frames {}; expected 1 or more, and max_frames not less", min_frames,
          max_frames);
  const auto check = [](const char* key, const std::vector<int>& values, int least) {
    if (values.empty()) Throw("dynamic_chunk.{} is empty, expected one value or more", key);
    for (const int value : values) {
      if (value < least) Throw("dynamic_chunk.{} holds {}, expected {} or more", key, value, least);
    }
  };
  check("left_frames", left_frames, -1);
  check("right_frames", right_frames, 0);
}

void ModelConfig::Visit(OptionVisitor& v) {
  v.Group("features", features);
  v.Group("encoder", encoder);
  v.Group("dynamic_chunk", dynamic_chunk);
  v.Group("ctc", ctc);
  v.Field("edge_padding_frames", edge_padding_frames);
  v.Field("vocab_size", vocab_size);
}

void ModelConfig::Validate() const {
  features.Validate();
  encoder.Validate();
  dynamic_chunk.Validate();
  const Pattern pattern = Pattern::Parse(encoder.pattern);
  if (dynamic_chunk.probability > 0 && (pattern.learned() || pattern.hierarchical()))
    Throw(
        "dynamic_chunk.probability is {}, but the pattern {} waits for whole blocks, so it has no chunks to choose; "
        "set it to 0",
        dynamic_chunk.probability, encoder.pattern);
  ctc.Validate();
  if (ctc.self_conditioning && encoder.intermediate_layers.empty()) {
    Throw("ctc.self_conditioning needs encoder.intermediate_layers, which is empty");
  }
  if (edge_padding_frames < 0 || edge_padding_frames > 100) {
    Throw("edge_padding_frames is {}, expected 0 to 100", edge_padding_frames);
  }
  if (vocab_size < 0) Throw("vocab_size is {}, expected the tokens of the tokenizer", vocab_size);
}

}  // namespace earshot
