#include "src/nn/chunk_layout.h"

#include <algorithm>

#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

namespace {

Tensor Indices(const std::vector<int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

}  // namespace

ChunkLayout MakeChunkLayout(const Reach& reach, int64_t frames, int64_t past, double drop_below, torch::Device device) {
  EARSHOT_CHECK(frames > 0 && reach.chunk_frames > 0, "{} frames in chunks of {}", frames, reach.chunk_frames);
  const int64_t size = reach.chunk_frames, rows = size + reach.right_frames;
  ChunkLayout layout{.chunks = (frames + size - 1) / size, .rows_per_chunk = rows, .past = past};
  const auto row_of = [&](int64_t frame) { return frame / size * rows + frame % size; };
  const int64_t none = layout.chunks * rows;
  std::vector<int64_t> given, there, convolution;
  std::vector<int64_t> seen;  // frames before a chunk that it may see
  for (int64_t frame = 0; frame < frames; ++frame) given.push_back(row_of(frame));
  for (int64_t chunk = 0; chunk < layout.chunks; ++chunk) {
    const int64_t first = chunk * size;
    PlanOptions options{.num_queries = rows, .drop_below = drop_below};
    std::vector<int64_t> keys;
    const auto add = [&](int64_t row, int64_t frame) {
      keys.push_back(row);
      options.key_positions.push_back(frame);
    };
    const auto forgotten = [&](int64_t frame) { return reach.pattern.Forgettable(frame, first); };
    seen.erase(std::remove_if(seen.begin(), seen.end(), forgotten), seen.end());
    for (const int64_t frame : seen) add(row_of(frame), frame);
    for (int64_t frame = first; frame < first + size; ++frame) seen.push_back(frame);
    for (int64_t frame = first - past; frame < first; ++frame) convolution.push_back(frame < 0 ? none : row_of(frame));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t frame = first + i;
      layout.frame_of_row.push_back(frame);
      there.push_back(std::min(frame, frames - 1));
      options.query_positions.push_back(frame);
      const bool is_there = frame < frames;
      convolution.push_back(is_there ? chunk * rows + i : none);
      if (is_there) add(chunk * rows + i, frame);
    }
    options.num_keys = static_cast<int64_t>(keys.size());
    layout.attention.push_back({.keys = Indices(keys, device), .plan = MakeAttentionPlan(reach.pattern, options)});
  }
  layout.convolution_rows = Indices(convolution, device);
  layout.row_frames = Indices(there, device);
  layout.frame_rows = Indices(given, device);
  return layout;
}

}  // namespace earshot
