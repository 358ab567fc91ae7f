// The encoder frame by frame; see encoder.h.
#include <algorithm>

#include "src/base/error.h"
#include "src/base/work.h"
#include "src/nn/encoder.h"
#include "src/nn/frame_queue.h"
#include "src/nn/rounded_rows.h"
#include "src/nn/side_by_side.h"
#include "src/nn/wavefront.h"

namespace earshot {

using torch::Tensor;

namespace {

// Many streams together have any number of frames: little memory counts more than a third of the products, which are a
// seventh of their time. What one stream's gate leaves over varies less.
constexpr int64_t kBatchHeights = 1, kLeastOfBatch = 64, kLeftOverHeights = 32;

// Frames that one core takes through the layers at a time are a multiple of the first number, so that chunks are whole
// at their ends, and at most the second where there are more cores than one: each piece reads all weights anew.
constexpr int64_t kPieceUnit = 128, kMostOfPiece = 1024;

// Streams that a thread takes through all layers on its own, where each thread has so many: nothing is waited for.
constexpr int64_t kStreamsOfThread = 4;

// Each thread begins a third of a layer behind the one before: with fewer layers for it than these, threads that share
// out what is within a layer may be as fast. Two threads in pieces take a sixth less time than so with 4 layers.
constexpr int64_t kLayersOfThread = 2;

// As many of the same length as busy all threads.
int64_t PieceFrames(int64_t frames, int64_t threads) {
  if (threads == 1 || frames == 0) return frames;
  const int64_t rounds = (frames + threads * kMostOfPiece - 1) / (threads * kMostOfPiece);
  const int64_t even = (frames + threads * rounds - 1) / (threads * rounds);
  return (even + kPieceUnit - 1) / kPieceUnit * kPieceUnit;
}

// `count` frames from `at` on, a view; the first of all is frame `first` of the stream.
GatedFrames PartOf(const GatedFrames& all, int64_t first, int64_t at, int64_t count) {
  GatedFrames part{.x = all.x.narrow(1, at, count), .positions = FramePositions::Range(first + at, count)};
  if (all.gate.defined()) part.gate = all.gate.narrow(1, at, count);
  return part;
}

std::vector<GatedFrames> CutIntoPieces(const GatedFrames& all, int64_t threads) {
  std::vector<GatedFrames> pieces;
  const int64_t frames = all.x.size(1), first = all.positions.received - frames;
  const int64_t length = PieceFrames(frames, threads);
  for (int64_t at = 0; at < frames || pieces.empty();) {
    const int64_t behind_unit = length < frames ? (first + at) % kPieceUnit : 0;
    const int64_t count = std::min(frames - at, length - behind_unit);
    pieces.push_back(PartOf(all, first, at, count));
    at += count;
  }
  return pieces;
}

}  // namespace

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
    frames = blocks_[i]->Stream({.in = frames, .final = true, .state = &blocks[i]});
    if (IsIntermediate(i) && conditioning) frames.x = frames.x + conditioning(frames.x);
  }
  return skipper_.PutBack(frames, state);
}

std::vector<BlockState> Encoder::StartBlocks(const Reach* reach) const {
  std::vector<BlockState> blocks(blocks_.size());
  for (BlockState& block : blocks) block.attention.drop_below = gate_->LeastAttended(is_training());
  if (!reach) return blocks;
  const auto pattern = std::make_shared<const Pattern>(reach->pattern);
  for (BlockState& block : blocks) {
    block.attention.pattern = pattern;
    block.convolution.chunk = reach->right_frames > 0 ? -1 : reach->chunk_frames;
  }
  return blocks;
}

void Encoder::CheckReach(const Reach& reach) const {
  const bool same_parts = !reach.pattern.learned() && !pattern_.learned() && !reach.pattern.hierarchical() &&
                          !pattern_.hierarchical() && !reach.pattern.memory() == !pattern_.memory();
  if (!same_parts)
    Throw("an encoder with the pattern {} cannot look as {} says: blocks, cells and memory are parts of the network",
          pattern_.ToString(), reach.pattern.ToString());
  if (reach.right_frames > 0 && !CanHaveRightContext())
    Throw(
        "an encoder with memory, or that skips frames (encoder.skip.from_layer), takes each frame once: it cannot have "
        "right context");
}

EncoderState Encoder::StartStream(const Reach* reach) const {
  if (reach) CheckReach(*reach);
  EncoderState state;
  if (reach) {
    state.chunk_frames = reach->chunk_frames;
    state.right_frames = reach->right_frames;
  }
  state.blocks = StartBlocks(reach);
  return state;
}

std::vector<GatedFrames> Encoder::Begin(const std::vector<EncoderStep>& steps) {
  std::vector<SubsamplingStep> subsampling;
  std::vector<Tensor> seen;  // where the gate hears it: the frames, with those that waited
  for (const auto& [features, final, state] : steps) {
    EARSHOT_CHECK(state->blocks.size() == blocks_.size(), "state of {} blocks for an encoder of {}",
                  state->blocks.size(), blocks_.size());
    const Tensor pending = state->subsampling.frames;
    EARSHOT_CHECK(features.defined() || pending.defined(), "a step of a stream without frames");
    const Tensor fresh = features.defined() ? features : pending.narrow(1, 0, 0);
    subsampling.push_back({.features = fresh, .final = final, .state = &state->subsampling});
    if (gate_->HearsEnergy()) seen.push_back(Append(pending, fresh));
  }
  const std::vector<Tensor> subsampled = subsampling_->StreamBatch(subsampling);
  std::vector<GatedFrames> all;
  for (size_t i = 0; i < steps.size(); ++i) {
    EncoderState& state = *steps[i].state;
    const Tensor x =
        (options_.input_scale == 1.0 ? subsampled[i] : subsampled[i] * options_.input_scale).to(torch::kFloat);
    GatedFrames frames{.x = x, .positions = FramePositions::Range(state.frames, x.size(1))};
    Tensor energy;
    if (gate_->HearsEnergy())
      energy = Energy(seen[i].narrow(1, 0, std::min(seen[i].size(1), x.size(1) * subsampling_->factor())), x.size(1));
    const Tensor gate = gate_->forward(x, energy);
    if (gate.defined()) frames.gate = gate.unsqueeze(2);
    state.frames += x.size(1);
    CountWork({.frames = x.size(0) * x.size(1)});
    all.push_back(std::move(frames));
  }
  return all;
}

std::vector<BlockStep> Encoder::BlockSteps(GatedFrames fresh, bool final, EncoderState& state) {
  if (state.right_frames == 0) return {{.in = std::move(fresh), .final = final}};
  GatedFrames& all = state.ahead;
  all.x = Append(all.x, fresh.x);
  if (fresh.gate.defined()) all.gate = Append(all.gate, fresh.gate);
  std::vector<BlockStep> steps;
  const int64_t frames = all.x.size(1), first = fresh.positions.received - frames;
  int64_t at = 0;
  const auto add = [&](int64_t count, bool last) {
    steps.push_back({.in = PartOf(all, first, at, count), .final = last, .ahead = last ? 0 : state.right_frames});
  };
  for (; frames - at >= state.chunk_frames + state.right_frames; at += state.chunk_frames)
    add(state.chunk_frames + state.right_frames, false);
  if (final && frames > at) add(frames - at, true);
  // A copy: a view would keep all the frames alive.
  all.x = all.x.narrow(1, at, frames - at).clone();
  if (all.gate.defined()) all.gate = all.gate.narrow(1, at, frames - at).clone();
  return steps;
}

EncoderOutput Encoder::Stream(const Tensor& features, bool final, EncoderState& state, const Conditioning& conditioning,
                              const BlankProbability& blank) {
  return StreamBatch({{.features = features, .final = final, .state = &state}}, conditioning, blank).front();
}

void Encoder::AfterBlock(size_t layer, const BlockStep& block, const EncoderStep& step, const Heads& heads,
                         GatedFrames& frames, std::vector<Tensor>& intermediate) const {
  if (IsIntermediate(layer)) {
    const size_t index = IntermediatesBefore(layer);
    intermediate.resize(std::max(intermediate.size(), index + 1));
    intermediate[index] = Append(intermediate[index], frames.x.narrow(1, 0, frames.x.size(1) - block.ahead));
    if (heads.conditioning) frames.x = frames.x + heads.conditioning(frames.x);
  }
  if (SkipsBehind(layer))
    frames = skipper_.TakeOut(frames, BlankOf(frames.x, heads.blank), block.final, step.state->skip);
}

void Encoder::Finish(GatedFrames frames, EncoderState& state, EncoderOutput& out) const {
  if (skipper_.enabled()) {
    const RestoredFrames all = skipper_.PutBack(frames, state.skip);
    frames.x = all.x;
    frames.gate = all.gate;
    out.dropped = all.dropped;
  }
  out.x = frames.x;
  out.lens = torch::full({frames.x.size(0)}, frames.x.size(1), torch::kInt64);
  if (frames.gate.defined()) out.gate = frames.gate.squeeze(2);
}

EncoderOutput Encoder::StreamInPieces(const EncoderStep& step, const Heads& heads) {
  const int64_t heights = skipper_.enabled() ? kLeftOverHeights : RoundedRows::kEvery;
  const RoundedRows here(heights);
  const GatedFrames fresh = Begin({step}).front();
  const int64_t threads = at::get_num_threads();
  const bool in_one = !fresh.x.is_cpu() || (threads - 1) * kLayersOfThread > static_cast<int64_t>(blocks_.size());
  std::vector<GatedFrames> pieces = CutIntoPieces(fresh, in_one ? 1 : threads);
  std::vector<std::vector<Tensor>> intermediate(pieces.size());
  std::vector<BlockWork> work(pieces.size());
  constexpr int kStages = ConformerBlock::kStages;
  const auto stages = static_cast<int64_t>(blocks_.size()) * kStages;
  Wavefront(static_cast<int64_t>(pieces.size()), stages, [&](int64_t p, int64_t s) {
    const RoundedRows rounded(heights);
    const auto place = static_cast<size_t>(p), layer = static_cast<size_t>(s / kStages);
    const int stage = static_cast<int>(s % kStages);
    GatedFrames& piece = pieces[place];
    if (stage == 0) {
      SetRotary(piece);
      CountWork({.block_frames = piece.x.size(1)});
      work[place].steps = {{.in = std::move(piece),
                            .final = step.final && place + 1 == pieces.size(),
                            .state = &step.state->blocks[layer]}};
    }
    blocks_[layer]->Advance(stage, work[place]);
    if (stage + 1 < kStages) return;
    piece = std::move(work[place].out.front());
    AfterBlock(layer, work[place].steps.front(), step, heads, piece, intermediate[place]);
    work[place] = {};
  });
  std::vector<Tensor> x, gates;
  for (const GatedFrames& piece : pieces) {
    x.push_back(piece.x);
    if (piece.gate.defined()) gates.push_back(piece.gate);
  }
  EncoderOutput out;
  for (size_t i = 0; i < intermediate.front().size(); ++i) {
    std::vector<Tensor> parts;
    for (const std::vector<Tensor>& of_piece : intermediate) parts.push_back(of_piece[i]);
    out.intermediate.push_back(Join(parts));
  }
  Finish({.x = Join(x), .gate = gates.empty() ? Tensor() : Join(gates), .positions = {}}, *step.state, out);
  return out;
}

std::vector<EncoderOutput> Encoder::StreamBatch(const std::vector<EncoderStep>& steps, const Conditioning& conditioning,
                                                const BlankProbability& blank) {
  if (steps.empty()) return {};
  const Heads heads{conditioning, blank};
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
    std::vector<EncoderOutput> given = StreamBatch(others, conditioning, blank);
    for (size_t i = 0; i < places.size(); ++i) out[places[i]] = std::move(given[i]);
    return out;
  }
  if (steps.size() == 1 && steps.front().state->right_frames == 0) return {StreamInPieces(steps.front(), heads)};
  const auto count = static_cast<int64_t>(steps.size());
  const EncoderStep& one = steps.front();
  const Tensor& frames = one.features.defined() ? one.features : one.state->subsampling.frames;
  const int64_t groups = frames.is_cpu() ? std::clamp<int64_t>(count / kStreamsOfThread, 1, at::get_num_threads()) : 1;
  if (groups == 1) return StreamTogether(steps, heads);
  SideBySide(groups, [&](int64_t g) {
    const int64_t begin = count * g / groups, end = count * (g + 1) / groups;
    std::vector<EncoderOutput> given = StreamTogether({steps.begin() + begin, steps.begin() + end}, heads);
    std::move(given.begin(), given.end(), out.begin() + begin);
  });
  return out;
}

std::vector<EncoderOutput> Encoder::StreamTogether(const std::vector<EncoderStep>& steps, const Heads& heads) {
  std::vector<EncoderOutput> out(steps.size());
  const bool many = steps.size() > 1;
  const RoundedRows rounded(many ? kBatchHeights : RoundedRows::kEvery, many ? kLeastOfBatch : 0);
  std::vector<BlockStep> blocks;
  std::vector<size_t> owners;  // the stream of each
  std::vector<GatedFrames> fresh = Begin(steps);
  for (size_t i = 0; i < steps.size(); ++i) {
    for (BlockStep& step : BlockSteps(std::move(fresh[i]), steps[i].final, *steps[i].state)) {
      blocks.push_back(std::move(step));
      owners.push_back(i);
    }
  }
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    if (blocks.empty()) break;  // no stream has a chunk and its right context
    for (size_t b = 0; b < blocks.size(); ++b) {
      blocks[b].state = &steps[owners[b]].state->blocks[layer];
      SetRotary(blocks[b].in);
      CountWork({.block_frames = blocks[b].in.x.size(0) * (blocks[b].in.x.size(1) - blocks[b].ahead)});
    }
    std::vector<GatedFrames> frames = blocks_[layer]->StreamBatch(blocks);
    for (size_t b = 0; b < blocks.size(); ++b) {
      AfterBlock(layer, blocks[b], steps[owners[b]], heads, frames[b], out[owners[b]].intermediate);
      blocks[b].in = std::move(frames[b]);
    }
  }
  std::vector<GatedFrames> ends(steps.size());
  for (size_t b = 0; b < blocks.size(); ++b) {
    GatedFrames& all = ends[owners[b]];
    GatedFrames& one = blocks[b].in;
    const int64_t count = one.x.size(1) - blocks[b].ahead;
    all.x = Append(all.x, one.x.narrow(1, 0, count));
    if (one.gate.defined()) all.gate = Append(all.gate, one.gate.narrow(1, 0, count));
    all.positions = std::move(one.positions);
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    GatedFrames& one = ends[i];
    if (!one.x.defined()) {
      one.x = steps[i].state->ahead.x.narrow(1, 0, 0);
      if (steps[i].state->ahead.gate.defined()) one.gate = steps[i].state->ahead.gate.narrow(1, 0, 0);
    }
    Finish(std::move(one), *steps[i].state, out[i]);
  }
  return out;
}

}  // namespace earshot
