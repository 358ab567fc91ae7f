#include "src/base/work.h"

#include <atomic>

namespace earshot {
namespace {

std::atomic<int64_t> frames{0}, block_frames{0}, attention_pairs{0};

}  // namespace

Work WorkDone() {
  return {.frames = frames.load(std::memory_order_relaxed),
          .block_frames = block_frames.load(std::memory_order_relaxed),
          .attention_pairs = attention_pairs.load(std::memory_order_relaxed)};
}

void CountWork(const Work& work) {
  frames.fetch_add(work.frames, std::memory_order_relaxed);
  block_frames.fetch_add(work.block_frames, std::memory_order_relaxed);
  attention_pairs.fetch_add(work.attention_pairs, std::memory_order_relaxed);
}

}  // namespace earshot
