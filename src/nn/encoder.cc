#include "src/nn/encoder.h"

#include <algorithm>

#include "src/attention/masked_softmax.h"
#include "src/base/error.h"
#include "src/base/work.h"
#include "src/nn/dropout.h"

namespace earshot {

using torch::Tensor;

void EncoderOptions::Visit(OptionVisitor& v) {
  v.Field("num_layers", num_layers);
  v.Field("dim", dim);
  v.Field("heads", heads);
  v.Field("kv_heads", kv_heads);
  v.Field("feed_forward_dim", feed_forward_dim);
  v.Field("dropout", dropout);
  v.Field("layer_drop", layer_drop);
  v.Field("bias", bias);
  v.Field("input_scale", input_scale);
  v.Field("pattern", pattern);
  v.Group("subsampling", subsampling);
  v.Group("convolution", convolution);
  v.Group("gate", gate);
  v.Group("skip", skip);
  v.Field("intermediate_layers", intermediate_layers);
}

void EncoderOptions::Validate() const {
  if (num_layers < 1) Throw("encoder.num_layers is {}, expected 1 or more", num_layers);
  if (heads < 1) Throw("encoder.heads is {}, expected 1 or more", heads);
  if (dim < 1 || dim % (2 * heads) != 0) {
    Throw("encoder.dim is {} for {} heads, expected a multiple of {} (rotary positions take pairs)", dim, heads,
          2 * heads);
  }
  if (kv_heads < 0 || (kv_heads > 0 && heads % kv_heads != 0))
    Throw("encoder.kv_heads is {}, expected a divisor of encoder.heads, {}, or 0 for as many", kv_heads, heads);
  if (feed_forward_dim < 1) Throw("encoder.feed_forward_dim is {}, expected 1 or more", feed_forward_dim);
  if (!(dropout >= 0 && dropout < 1)) Throw("encoder.dropout is {}, expected at least 0 and below 1", dropout);
  if (!(layer_drop >= 0 && layer_drop < 1))
    Throw("encoder.layer_drop is {}, expected at least 0 and below 1", layer_drop);
  for (const int layer : intermediate_layers) {
    if (layer < 1 || layer >= num_layers)
      Throw("encoder.intermediate_layers holds {}, expected 1 to {}", layer, num_layers - 1);
    if (std::count(intermediate_layers.begin(), intermediate_layers.end(), layer) > 1)
      Throw("encoder.intermediate_layers holds {} twice", layer);
  }
  Pattern::Parse(pattern);
  subsampling.Validate();
  convolution.Validate();
  gate.Validate();
  skip.Validate(num_layers);
  if (skip.from_layer > 0 && gate.kind == GateKind::kOff)
    Throw("encoder.skip.from_layer is {}, but encoder.gate.kind is off: it is the gate that says what to skip",
          skip.from_layer);
}

Encoder::Encoder(const EncoderOptions& options, int64_t num_features) : options_(options), skipper_(options.skip) {
  options_.Validate();
  pattern_ = Pattern::Parse(options_.pattern);
  subsampling_ =
      register_module("subsampling", std::make_shared<Subsampling>(options_.subsampling, num_features, options_.dim));
  gate_ = register_module("gate", std::make_shared<Gate>(options_.gate, options_.dim));
  for (int i = 0; i < options_.num_layers; ++i) {
    blocks_.push_back(register_module("block_" + std::to_string(i + 1),
                                      std::make_shared<ConformerBlock>(BlockOptions{
                                          .dim = options_.dim,
                                          .heads = options_.heads,
                                          .kv_heads = options_.kv_heads > 0 ? options_.kv_heads : options_.heads,
                                          .feed_forward_dim = options_.feed_forward_dim,
                                          .dropout = options_.dropout,
                                          .bias = options_.bias,
                                          .pattern = pattern_,
                                          .convolution = options_.convolution})));
  }
}

Tensor Encoder::Energy(const Tensor& features, int64_t frames) const {
  const int64_t factor = subsampling_->factor();
  if (frames == 0) return torch::zeros({features.size(0), 0}, features.options().dtype(torch::kFloat));
  const Tensor padded = torch::constant_pad_nd(features, {0, 0, 0, frames * factor - features.size(1)});
  return padded.view({features.size(0), frames, -1}).mean(2, false, torch::kFloat);
}

bool Encoder::IsIntermediate(size_t layer) const {
  const auto& layers = options_.intermediate_layers;
  return std::find(layers.begin(), layers.end(), static_cast<int>(layer) + 1) != layers.end();
}

size_t Encoder::IntermediatesBefore(size_t layer) const {
  const auto& layers = options_.intermediate_layers;
  const auto before = [layer](int one) { return one <= static_cast<int>(layer); };
  return static_cast<size_t>(std::count_if(layers.begin(), layers.end(), before));
}

Encoder::Prepared Encoder::Prepare(const Tensor& features, const Tensor& lens, const Reach* reach) {
  Prepared p;
  p.x = subsampling_->forward(features);
  if (options_.input_scale != 1.0) p.x = p.x * options_.input_scale;
  p.x = p.x.to(torch::kFloat);
  const int64_t frames = p.x.size(1);
  p.lens = (lens + (subsampling_->factor() - 1)).div(subsampling_->factor(), "floor");
  p.context.lens = p.lens;
  if (frames > 0 && p.lens.min().item<int64_t>() < frames) {
    p.context.mask = (torch::arange(frames, torch::kInt64).unsqueeze(0) < p.lens.unsqueeze(1))
                         .to(p.x.device(), torch::kFloat)
                         .unsqueeze(2);
  }
  const Tensor gate = gate_->forward(p.x, gate_->HearsEnergy() ? Energy(features, frames) : Tensor());
  if (gate.defined()) {
    p.context.gate = gate.unsqueeze(2);
    p.context.log_gate = gate.log();
  }
  if (reach && reach->right_frames > 0 && frames > 0) {
    LayOutInChunks(*reach, p);
    return p;
  }
  p.context.plan =
      MakeAttentionPlan(reach ? reach->pattern : pattern_,
                        {.num_queries = frames, .num_keys = frames, .drop_below = gate_->LeastAttended(is_training())});
  if (reach) p.context.convolution_chunk = reach->chunk_frames;
  p.context.rotary = MakeRotaryTable(0, frames, options_.dim / options_.heads, p.x.device());
  return p;
}

void Encoder::LayOutInChunks(const Reach& reach, Prepared& p) const {
  CheckReach(reach);
  const torch::Device device = p.x.device();
  const auto layout = std::make_shared<const ChunkLayout>(
      MakeChunkLayout(reach, p.x.size(1), options_.convolution.Before(), gate_->LeastAttended(is_training()), device));
  FrameContext& c = p.context;
  c.layout = layout;
  c.mask = (torch::tensor(layout->frame_of_row, torch::kInt64).unsqueeze(0) < p.lens.unsqueeze(1))
               .to(device, torch::kFloat)
               .unsqueeze(2);
  p.x = p.x.index_select(1, layout->row_frames);
  if (c.gate.defined()) c.gate = c.gate.index_select(1, layout->row_frames);
  // Rows behind the end of an utterance are not there, whatever their gate is.
  const Tensor bias = c.log_gate.defined() ? c.log_gate.index_select(1, layout->row_frames)
                                           : torch::zeros({p.x.size(0), p.x.size(1)}, c.mask.options());
  c.log_gate = bias.masked_fill(c.mask.squeeze(2) == 0, kNever);
  const RotaryTable of_frames = MakeRotaryTable(0, layout->chunks * reach.chunk_frames + reach.right_frames,
                                                options_.dim / options_.heads, device);
  const Tensor frame_of_row = torch::tensor(layout->frame_of_row, torch::kInt64).to(device);
  c.rotary = {of_frames.cos.index_select(0, frame_of_row), of_frames.sin.index_select(0, frame_of_row)};
}

EncoderOutput Encoder::forward(const Tensor& features, const Tensor& lens, const Conditioning& conditioning,
                               const BlankProbability& blank, const Reach* reach) {
  Prepared p = Prepare(features, lens, reach);
  EncoderOutput out;
  const bool inference = !is_training() && !torch::GradMode::is_enabled();
  const bool skips = inference && skipper_.enabled();
  const auto whole = [&](const Tensor& y) {
    return p.context.layout ? y.index_select(1, p.context.layout->frame_rows) : y;
  };
  const int64_t frames = p.lens.sum().item<int64_t>();
  if (inference) CountWork({.frames = frames});
  Tensor x = Dropout(p.x, options_.dropout, is_training());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const double drop = options_.layer_drop * static_cast<double>(i + 1) / static_cast<double>(blocks_.size());
    if (is_training() && drop > 0 && DropoutUniform() < drop) {
      if (IsIntermediate(i)) out.intermediate.push_back(whole(x));
      continue;
    }
    if (inference) CountWork({.block_frames = frames});
    x = blocks_[i]->forward(x, p.context);
    if (IsIntermediate(i)) {
      out.intermediate.push_back(whole(x));
      if (conditioning) x = x + conditioning(x);
    }
    if (!skips || !SkipsBehind(i)) continue;
    // Each utterance by itself: what is left of them differs in length.
    Tensor all = torch::zeros_like(x);
    out.dropped = torch::zeros({x.size(0), x.size(1)}, x.options().dtype(torch::kBool));
    for (int64_t n = 0; n < x.size(0); ++n) {
      const int64_t len = p.lens[n].item<int64_t>();
      const RestoredFrames one = RunSkipping({.x = x.narrow(0, n, 1).narrow(1, 0, len),
                                              .gate = p.context.gate.narrow(0, n, 1).narrow(1, 0, len),
                                              .positions = FramePositions::Range(0, len)},
                                             conditioning, blank, reach);
      all.narrow(0, n, 1).narrow(1, 0, len).copy_(one.x);
      out.dropped.narrow(0, n, 1).narrow(1, 0, len).copy_(one.dropped);
    }
    x = all;
    break;
  }
  out.x = whole(x);
  out.lens = p.lens;
  if (p.context.gate.defined()) out.gate = whole(p.context.gate).squeeze(2);
  return out;
}

Tensor Encoder::AttentionMap(const Tensor& features, const Tensor& lens, int layer, const Conditioning& conditioning) {
  if (layer < 1 || layer > static_cast<int>(blocks_.size()))
    Throw("layer {}: the encoder has the layers 1 to {}", layer, blocks_.size());
  Prepared p = Prepare(features, lens, nullptr);
  Tensor x = p.x;
  for (int i = 0; i + 1 < layer; ++i) {
    x = blocks_[static_cast<size_t>(i)]->forward(x, p.context);
    if (conditioning && IsIntermediate(static_cast<size_t>(i))) x = x + conditioning(x);
  }
  return blocks_[static_cast<size_t>(layer - 1)]->AttentionMap(x, p.context).mean(1);
}

}  // namespace earshot
