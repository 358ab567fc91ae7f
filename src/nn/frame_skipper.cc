#include "src/nn/frame_skipper.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/nn/frame_queue.h"

namespace earshot {

using torch::Tensor;

void SkipOptions::Visit(OptionVisitor& v) {
  v.Field("from_layer", from_layer);
  v.Field("threshold", threshold);
  v.Field("blank_threshold", blank_threshold);
  v.Field("guard_frames", guard_frames);
}

void SkipOptions::Validate(int num_layers) const {
  if (from_layer < 0 || from_layer >= num_layers)
    Throw("encoder.skip.from_layer is {}, expected 0 (never) to {}", from_layer, num_layers - 1);
  if (!(threshold > 0 && threshold < 1))
    Throw("encoder.skip.threshold is {}, expected more than 0 and less than 1", threshold);
  if (!(blank_threshold >= 0 && blank_threshold < 1))
    Throw("encoder.skip.blank_threshold is {}, expected at least 0 and less than 1", blank_threshold);
  if (guard_frames < 0) Throw("encoder.skip.guard_frames is {}, expected 0 or more", guard_frames);
}

std::vector<bool> FrameSkipper::Decide(bool final, SkipState& state) const {
  const auto count = static_cast<int64_t>(state.worth.size()), guard = static_cast<int64_t>(options_.guard_frames);
  std::vector<bool> keep;
  int64_t next = 0;  // the first frame from the one looked at on that is worth hearing; count: none is known
  for (int64_t i = 0; i < count; ++i) {
    next = std::max(next, i);
    while (next < count && !state.worth[static_cast<size_t>(next)]) ++next;
    const int64_t since = state.worth[static_cast<size_t>(i)] ? 0 : state.since_last + 1;
    const bool stays = since <= guard || (next < count && next - i <= guard);
    if (!stays && !final && i + guard >= count) break;  // a frame that is still to come may keep it
    state.since_last = since;
    keep.push_back(stays);
  }
  state.worth.erase(state.worth.begin(), state.worth.begin() + static_cast<int64_t>(keep.size()));
  return keep;
}

namespace {

// The places of those that are true.
Tensor IndexOf(const std::vector<bool>& flags, torch::Device device) {
  std::vector<int64_t> index;
  for (size_t i = 0; i < flags.size(); ++i) {
    if (flags[i]) index.push_back(static_cast<int64_t>(i));
  }
  return torch::tensor(index, torch::kInt64).to(device);
}

}  // namespace

GatedFrames FrameSkipper::TakeOut(const GatedFrames& frames, const Tensor& blank, bool final, SkipState& state) const {
  EARSHOT_CHECK(frames.x.size(0) == 1 && frames.gate.defined(), "frames leave one stream with a gate at a time");
  Tensor worth = frames.gate.flatten() >= options_.threshold;
  if (blank.defined() && options_.blank_threshold > 0) worth = worth | (blank.flatten() < options_.blank_threshold);
  worth = worth.to(torch::kCPU).contiguous();
  state.worth.insert(state.worth.end(), worth.data_ptr<bool>(), worth.data_ptr<bool>() + worth.numel());
  GatedFrames& waiting = state.waiting;
  waiting.x = Append(waiting.x, frames.x);
  waiting.gate = Append(waiting.gate, frames.gate);
  std::vector<int64_t>& positions = waiting.positions.at;
  positions.insert(positions.end(), frames.positions.at.begin(), frames.positions.at.end());

  const std::vector<bool> keep = Decide(final, state);
  const auto decided = static_cast<int64_t>(keep.size());
  state.kept.insert(state.kept.end(), keep.begin(), keep.end());
  const Tensor x = Take(waiting.x, decided), gate = Take(waiting.gate, decided);
  state.gate = Append(state.gate, gate);
  GatedFrames out;
  const Tensor index = IndexOf(keep, x.device());
  const bool all = index.size(0) == decided;
  out.x = all ? x : x.index_select(1, index);
  out.gate = all ? gate : gate.index_select(1, index);
  for (size_t i = 0; i < keep.size(); ++i) {
    if (keep[i]) out.positions.at.push_back(positions[i]);
  }
  positions.erase(positions.begin(), positions.begin() + decided);
  out.positions.received = positions.empty() ? frames.positions.received : positions.front();
  return out;
}

RestoredFrames FrameSkipper::PutBack(const GatedFrames& kept, SkipState& state) const {
  state.finished = Append(state.finished, kept.x);
  int64_t left = state.finished.size(1);
  size_t count = 0;
  while (count < state.kept.size() && (!state.kept[count] || left > 0)) left -= state.kept[count++] ? 1 : 0;
  const std::vector<bool> stayed(state.kept.begin(), state.kept.begin() + static_cast<int64_t>(count));
  state.kept.erase(state.kept.begin(), state.kept.begin() + static_cast<int64_t>(count));

  const Tensor x = Take(state.finished, state.finished.size(1) - left);
  const auto frames = static_cast<int64_t>(count);
  RestoredFrames out;
  out.gate = Take(state.gate, frames);
  const Tensor index = IndexOf(stayed, x.device());
  out.dropped = torch::ones({1, frames}, x.options().dtype(torch::kBool)).index_fill(1, index, false);
  out.x = x.size(1) == frames ? x : torch::zeros({1, frames, x.size(2)}, x.options()).index_copy(1, index, x);
  return out;
}

}  // namespace earshot
