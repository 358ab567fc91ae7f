// Pieces of one sequence through a stack of layers with states, on several cores: while a piece is in one layer, the
// next one may be in those before it.
//
//   Wavefront(pieces, layers, [&](int64_t piece, int64_t layer) { x[piece] = Compute(layer, x[piece]); });
//
// One thread takes a piece through all layers, so that nothing within a layer has to be shared out and waited for.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "src/nn/side_by_side.h"

namespace earshot {

// Calls f(piece, layer) once for each, behind (piece, layer - 1) and (piece - 1, layer). f sees the caller's modes of
// torch; what it throws the caller gets, and the rest is left out. One piece has all of torch's threads for itself.
template <class F>
void Wavefront(int64_t num_pieces, int64_t num_layers, F f) {
  std::mutex mutex;
  std::condition_variable moved;
  std::vector<int64_t> layers_done(static_cast<size_t>(num_pieces), 0);
  int64_t next = 0;
  bool failed = false;
  // False: something has failed.
  const auto wait_for = [&](int64_t piece, int64_t layer) {
    std::unique_lock lock(mutex);
    if (piece > 0) moved.wait(lock, [&] { return failed || layers_done[static_cast<size_t>(piece - 1)] > layer; });
    return !failed;
  };
  const auto tell = [&](auto change) {
    {
      const std::lock_guard lock(mutex);
      change();
    }
    moved.notify_all();
  };
  // Pieces are taken in order: the one before is done, or with a thread that waits for none behind it.
  const auto take = [&] {
    const std::lock_guard lock(mutex);
    return failed || next == num_pieces ? -1 : next++;
  };
  const auto work = [&] {
    try {
      for (int64_t piece = take(); piece >= 0; piece = take()) {
        for (int64_t layer = 0; layer < num_layers; ++layer) {
          if (!wait_for(piece, layer)) return;
          f(piece, layer);
          tell([&] { layers_done[static_cast<size_t>(piece)] = layer + 1; });
        }
      }
    } catch (...) {
      tell([&] { failed = true; });
      throw;
    }
  };
  const int64_t threads = std::min<int64_t>(num_pieces, at::get_num_threads());
  if (threads <= 1) return work();  // not by SideBySide, within which nothing else is shared out
  SideBySide(threads, [&](int64_t) { work(); });
}

}  // namespace earshot
