#include "src/base/freed_memory.h"

#include <malloc.h>

#include <algorithm>
#include <climits>

namespace earshot {

void KeepFreedMemory([[maybe_unused]] int64_t bytes) {
#if defined(__GLIBC__)
  // Blocks of up to 32 MB, the most that it allows, come out of heaps, and heaps grow by some of it at once.
  constexpr int64_t kLargest = 32 << 20, kMostGrowth = 64 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargest);
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(std::min<int64_t>(bytes, INT_MAX)));
  mallopt(M_TOP_PAD, static_cast<int>(std::min(bytes / 4, kMostGrowth)));
#endif
}

}  // namespace earshot
