#include "src/base/allocator.h"

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace earshot {

void KeepFreedMemory() {
#if defined(__GLIBC__)
  // The largest that glibc allows; a threshold that is set no longer moves with what is freed.
  constexpr int kMmapThreshold = 32 << 20, kTrimThreshold = 256 << 20;
  if (!std::getenv("MALLOC_TRIM_THRESHOLD_")) mallopt(M_TRIM_THRESHOLD, kTrimThreshold);
  if (!std::getenv("MALLOC_MMAP_THRESHOLD_")) mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
#endif
}

void ReturnFreedMemory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace earshot
