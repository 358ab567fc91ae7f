#include "src/nn/encoder.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/work.h"
#include "src/nn/dropout.h"
#include "src/nn/rounded_rows.h"

namespace earshot {

using torch::Tensor;

namespace {

// Many streams together have any number of frames: little memory counts more than a sixteenth of the time. What one
// stream's gate leaves over varies less.
constexpr int64_t kBatchHeights = 8, kLeftOverHeights = 32;

}  // namespace

void EncoderOptions::Visit(OptionVisitor& v) {
  v.Field("num_layers", num_layers);
  v.Field("dim", dim);
  v.Field("heads", heads);
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
  if (heads < 1 || dim < 1 || dim % (2 * heads) != 0) {
    Throw("encoder.dim is {} for {} heads, expected a multiple of {} (rotary positions take pairs)", dim, heads,
          2 * std::max(heads, 1));
  }
  if (feed_forward_dim < 1) Throw("encoder.feed_forward_dim is {}, expected 1 or more", feed_forward_dim);
  if (!(dropout >= 0 && dropout < 1)) Throw("encoder.dropout is {}, expected at least 0 and below 1", dropout);
  if (!(layer_drop >= 0 && layer_drop < 1))
    Throw("encoder.layer_drop is {}, expected at least 0 and below 1", layer_drop);
  for (const int layer : intermediate_layers) {
    if (layer < 1 || layer >= num_layers)
      Throw("encoder.intermediate_layers holds {}, expected 1 to {}", layer, num_layers - 1);
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
    blocks_.push_back(
        register_module("block_" + std::to_string(i + 1),
                        std::make_shared<ConformerBlock>(BlockOptions{.dim = options_.dim,
                                                                      .heads = options_.heads,
                                                                      .feed_forward_dim = options_.feed_forward_dim,
                                                                      .dropout = options_.dropout,
                                                                      .bias = options_.bias,
                                                                      .pattern = pattern_,
                                                                      .convolution = options_.convolution})));
  }
}

Tensor Encoder::Energy(const Tensor& features, int64_t frames) const {
  const int64_t factor = subsampling_->factor();
  if (frames == 0) return torch::zeros({features.size(0), 0});
  const Tensor padded = torch::constant_pad_nd(features, {0, 0, 0, frames * factor - features.size(1)});
  return padded.view({features.size(0), frames, -1}).mean(2, false, torch::kFloat);
}

bool Encoder::IsIntermediate(size_t layer) const {
  const auto& layers = options_.intermediate_layers;
  return std::find(layers.begin(), layers.end(), static_cast<int>(layer) + 1) != layers.end();
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
  const Tensor gate = gate_->forward(p.x, gate_->kind() == GateKind::kEnergy ? Energy(features, frames) : Tensor());
  if (gate.defined()) {
    p.context.gate = gate.unsqueeze(2);
    p.context.log_gate = gate.log();
  }
  p.context.plan = MakeAttentionPlan(reach ? reach->pattern : pattern_, {.num_queries = frames, .num_keys = frames});
  if (reach) p.context.convolution_chunk = reach->convolution_chunk;
  p.context.rotary = MakeRotaryTable(0, frames, options_.dim / options_.heads, p.x.device());
  return p;
}

Tensor Encoder::BlankOf(const Tensor& x, const BlankProbability& blank) const {
  return blank && IsIntermediate(static_cast<size_t>(skipper_.from_layer() - 1)) ? blank(x) : Tensor();
}

void Encoder::SetRotary(GatedFrames& frames) const {
  if (!frames.positions.rotary.cos.defined())
    frames.positions.rotary = MakeRotaryTable(frames.positions.at, options_.dim / options_.heads, frames.x.device());
}

RestoredFrames Encoder::RunSkipping(const GatedFrames& all, const Conditioning& conditioning,
                                    const BlankProbability& blank, const Reach* reach) {
  const RoundedRows rounded(kLeftOverHeights);
  SkipState state;
  std::vector<BlockState> blocks = StartBlocks(reach);
  GatedFrames frames = skipper_.TakeOut(all, BlankOf(all.x, blank), true, state);
  for (size_t i = static_cast<size_t>(skipper_.from_layer()); i < blocks_.size(); ++i) {
    CountWork({.block_frames = frames.x.size(1)});
    SetRotary(frames);
    frames = blocks_[i]->Stream(frames, true, blocks[i]);
    if (IsIntermediate(i) && conditioning) frames.x = frames.x + conditioning(frames.x);
  }
  return skipper_.PutBack(frames, state);
}

EncoderOutput Encoder::forward(const Tensor& features, const Tensor& lens, const Conditioning& conditioning,
                               const BlankProbability& blank, const Reach* reach) {
  Prepared p = Prepare(features, lens, reach);
  EncoderOutput out;
  const bool inference = !is_training() && !torch::GradMode::is_enabled();
  const bool skips = inference && skipper_.enabled();
  const int64_t frames = p.lens.sum().item<int64_t>();
  if (inference) CountWork({.frames = frames});
  Tensor x = Dropout(p.x, options_.dropout, is_training());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const double drop = options_.layer_drop * static_cast<double>(i + 1) / static_cast<double>(blocks_.size());
    if (is_training() && drop > 0 && DropoutUniform() < drop) {
      if (IsIntermediate(i)) out.intermediate.push_back(x);
      continue;
    }
    if (inference) CountWork({.block_frames = frames});
    x = blocks_[i]->forward(x, p.context);
    if (IsIntermediate(i)) {
      out.intermediate.push_back(x);
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
  out.x = x;
  out.lens = p.lens;
  if (p.context.gate.defined()) out.gate = p.context.gate.squeeze(2);
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

std::vector<BlockState> Encoder::StartBlocks(const Reach* reach) const {
  std::vector<BlockState> blocks(blocks_.size());
  if (!reach) return blocks;
  const auto pattern = std::make_shared<const Pattern>(reach->pattern);
  for (BlockState& block : blocks) {
    block.attention.pattern = pattern;
    block.convolution.chunk = reach->convolution_chunk;
  }
  return blocks;
}

EncoderState Encoder::StartStream(const Reach* reach) const {
  if (reach) {
    const bool same_parts = !reach->pattern.learned() && !pattern_.learned() && !reach->pattern.hierarchical() &&
                            !pattern_.hierarchical() && !reach->pattern.memory() == !pattern_.memory();
    if (!same_parts)
      Throw("an encoder with the pattern {} cannot look as {} says: blocks, cells and memory are parts of the network",
            pattern_.ToString(), reach->pattern.ToString());
  }
  EncoderState state;
  state.blocks = StartBlocks(reach);
  return state;
}

GatedFrames Encoder::Begin(const EncoderStep& step) {
  const auto& [features, final, state] = step;
  EARSHOT_CHECK(state->blocks.size() == blocks_.size(), "state of {} blocks for an encoder of {}", state->blocks.size(),
                blocks_.size());
  const Tensor pending = state->subsampling.frames;
  EARSHOT_CHECK(features.defined() || pending.defined() || final, "a step of a stream without frames");
  const Tensor fresh = features.defined() ? features : pending.narrow(1, 0, 0);
  const Tensor seen = pending.defined() ? torch::cat({pending, fresh}, 1) : fresh;
  Tensor x = subsampling_->Stream(fresh, final, state->subsampling);
  if (options_.input_scale != 1.0) x = x * options_.input_scale;
  GatedFrames frames{.x = x.to(torch::kFloat)};
  Tensor energy;
  if (gate_->kind() == GateKind::kEnergy) {
    energy = Energy(seen.narrow(1, 0, std::min(seen.size(1), x.size(1) * subsampling_->factor())), x.size(1));
  }
  const Tensor gate = gate_->forward(frames.x, energy);
  if (gate.defined()) frames.gate = gate.unsqueeze(2);
  frames.positions = FramePositions::Range(state->frames, x.size(1));
  state->frames += x.size(1);
  CountWork({.frames = x.size(0) * x.size(1)});
  return frames;
}

EncoderOutput Encoder::Stream(const Tensor& features, bool final, EncoderState& state, const Conditioning& conditioning,
                              const BlankProbability& blank) {
  return StreamBatch({{.features = features, .final = final, .state = &state}}, conditioning, blank).front();
}

std::vector<EncoderOutput> Encoder::StreamBatch(const std::vector<EncoderStep>& steps, const Conditioning& conditioning,
                                                const BlankProbability& blank) {
  // Streams to which nothing ever came have nothing to give.
  std::vector<EncoderOutput> out(steps.size());
  std::vector<EncoderStep> others;
  std::vector<size_t> places;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].final && !steps[i].features.defined() && !steps[i].state->subsampling.frames.defined()) {
      out[i].x = torch::zeros({1, 0, options_.dim}, parameters().front().device());
      out[i].lens = torch::zeros({1}, torch::kInt64);
    } else {
      others.push_back(steps[i]);
      places.push_back(i);
    }
  }
  if (others.size() < steps.size()) {
    if (others.empty()) return out;
    std::vector<EncoderOutput> given = StreamBatch(others, conditioning, blank);
    for (size_t i = 0; i < places.size(); ++i) out[places[i]] = std::move(given[i]);
    return out;
  }
  const RoundedRows rounded(steps.size() > 1 ? kBatchHeights : skipper_.enabled() ? kLeftOverHeights : 0);
  std::vector<BlockStep> blocks;
  for (const EncoderStep& step : steps) blocks.push_back({.in = Begin(step), .final = step.final});
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    for (size_t i = 0; i < steps.size(); ++i) {
      blocks[i].state = &steps[i].state->blocks[layer];
      SetRotary(blocks[i].in);
      CountWork({.block_frames = blocks[i].in.x.size(0) * blocks[i].in.x.size(1)});
    }
    std::vector<GatedFrames> frames = blocks_[layer]->StreamBatch(blocks);
    for (size_t i = 0; i < steps.size(); ++i) {
      GatedFrames& one = blocks[i].in = std::move(frames[i]);
      if (IsIntermediate(layer)) {
        out[i].intermediate.push_back(one.x);
        if (conditioning) one.x = one.x + conditioning(one.x);
      }
      if (SkipsBehind(layer)) one = skipper_.TakeOut(one, BlankOf(one.x, blank), steps[i].final, steps[i].state->skip);
    }
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    GatedFrames& one = blocks[i].in;
    if (skipper_.enabled()) {
      const RestoredFrames all = skipper_.PutBack(one, steps[i].state->skip);
      one.x = all.x;
      one.gate = all.gate;
      out[i].dropped = all.dropped;
    }
    out[i].x = one.x;
    out[i].lens = torch::full({one.x.size(0)}, one.x.size(1), torch::kInt64);
    if (one.gate.defined()) out[i].gate = one.gate.squeeze(2);
  }
  return out;
}

}  // namespace earshot
