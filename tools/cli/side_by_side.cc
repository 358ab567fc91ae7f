#include "tools/cli/side_by_side.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace earshot {

void RunSideBySide(size_t count, const SideBySideOptions& options, const std::function<void(size_t)>& run) {
  const int before = at::get_num_threads();
  const int threads = options.threads > 0 ? options.threads : before;
  const int most = options.workers > 0 ? options.workers : threads;
  const int workers = static_cast<int>(std::clamp<size_t>(count, 1, static_cast<size_t>(most)));
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&] {
    // For this thread: OpenMP keeps the number for each.
    at::set_num_threads(std::max(1, threads / workers));
    try {
      for (size_t i = next++; i < count && !failed; i = next++) run(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  for (int w = 1; w < workers; ++w) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  at::set_num_threads(before);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace earshot
