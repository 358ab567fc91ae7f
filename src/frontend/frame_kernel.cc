#include "src/frontend/frame_kernel.h"

#include <cstddef>
#include <vector>

#include "src/base/error.h"

// For the kernels, which must not instantiate it themselves: see frame_kernel_lanes.h.
template class std::vector<std::size_t>;

namespace earshot {

#define EARSHOT_DECLARE_KERNEL(name)                    \
  namespace name {                                      \
  FrameKernel* Make(const FrameKernelSpec& spec);       \
  void LogArray(const float* x, int count, float* out); \
  }
EARSHOT_DECLARE_KERNEL(kernel_baseline)
#if defined(EARSHOT_X86_KERNELS)
EARSHOT_DECLARE_KERNEL(kernel_avx2)
EARSHOT_DECLARE_KERNEL(kernel_avx512)
#endif

FrameKernel::~FrameKernel() = default;

FrameKernel* MakeFrameKernel(SimdLevel level, const FrameKernelSpec& spec) {
  EARSHOT_CHECK(spec.fft_size >= 8 && spec.fft_size >= spec.frame_length, "an FFT of {} for frames of {}",
                spec.fft_size, spec.frame_length);
  switch (level) {
    case SimdLevel::kBaseline: return kernel_baseline::Make(spec);
#if defined(EARSHOT_X86_KERNELS)
    case SimdLevel::kAvx2: return kernel_avx2::Make(spec);
    case SimdLevel::kAvx512:
    case SimdLevel::kAvx512Bf16:
    case SimdLevel::kAmx: return kernel_avx512::Make(spec);
#endif
    default: EARSHOT_CHECK(false, "no frame kernel for {}", Name(level));
  }
}

void KernelLog(SimdLevel level, const float* x, int count, float* out) {
  switch (level) {
    case SimdLevel::kBaseline: return kernel_baseline::LogArray(x, count, out);
#if defined(EARSHOT_X86_KERNELS)
    case SimdLevel::kAvx2: return kernel_avx2::LogArray(x, count, out);
    case SimdLevel::kAvx512:
    case SimdLevel::kAvx512Bf16:
    case SimdLevel::kAmx: return kernel_avx512::LogArray(x, count, out);
#endif
    default: EARSHOT_CHECK(false, "no frame kernel for {}", Name(level));
  }
}

}  // namespace earshot
