#include "src/model/config.h"

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

void ModelConfig::Visit(OptionVisitor& v) {
  v.Group("features", features);
  v.Group("encoder", encoder);
  v.Group("ctc", ctc);
  v.Field("edge_padding_frames", edge_padding_frames);
  v.Field("vocab_size", vocab_size);
}

void ModelConfig::Validate() const {
  features.Validate();
  encoder.Validate();
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
