// Independent pieces of work on several threads, each with its share of the cores.
//
// Small networks gain little from threads inside an operator; a recording for each core gains all.
//
//   RunSideBySide(files.size(), {.threads = 8}, [&](size_t i) { Transcribe(files[i]); });
#pragma once

#include <cstddef>
#include <functional>

namespace earshot {

struct SideBySideOptions {
  // Threads in all. 0: as many as torch takes by itself, which is the cores or OMP_NUM_THREADS.
  int threads = 0;
  // Pieces at a time. 0: one for each thread.
  int workers = 0;
};

// Calls run(0) ... run(count - 1), in this order but side by side, and returns when all have ended. What one throws
// ends the rest and is thrown here.
void RunSideBySide(size_t count, const SideBySideOptions& options, const std::function<void(size_t)>& run);

}  // namespace earshot
