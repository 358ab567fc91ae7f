#include "src/nn/row_kernel.h"

#include <algorithm>

#include "src/base/error.h"

namespace earshot {

#define EARSHOT_DECLARE_KERNELS(name) \
  namespace name {                    \
  extern const RowKernels kKernels;   \
  }
EARSHOT_DECLARE_KERNELS(row_kernel_baseline)
#if defined(EARSHOT_X86_KERNELS)
EARSHOT_DECLARE_KERNELS(row_kernel_avx2)
EARSHOT_DECLARE_KERNELS(row_kernel_avx512)
EARSHOT_DECLARE_KERNELS(row_kernel_avx512bf16)
#endif

const RowKernels& GetRowKernels(SimdLevel level) {
  switch (level) {
    case SimdLevel::kBaseline: return row_kernel_baseline::kKernels;
#if defined(EARSHOT_X86_KERNELS)
    case SimdLevel::kAvx2: return row_kernel_avx2::kKernels;
    case SimdLevel::kAvx512: return row_kernel_avx512::kKernels;
    case SimdLevel::kAvx512Bf16:
    case SimdLevel::kAmx: return row_kernel_avx512bf16::kKernels;
#endif
    default: EARSHOT_CHECK(false, "no row kernels for {}", Name(level));
  }
}

int64_t PackedDepthwiseSize(int64_t dim, int64_t kernel) {
  const int64_t blocks = (dim + kDepthwiseChannels - 1) / kDepthwiseChannels;
  return blocks * (kernel + 2 * (kDepthwiseTile - 1)) * kDepthwiseChannels;
}

void PackDepthwise(const float* weight, int64_t dim, int64_t kernel, float* packed) {
  std::fill_n(packed, PackedDepthwiseSize(dim, kernel), 0.0F);
  const int64_t taps = kernel + 2 * (kDepthwiseTile - 1);
  for (int64_t c = 0; c < dim; ++c) {
    float* column = packed + c / kDepthwiseChannels * taps * kDepthwiseChannels + c % kDepthwiseChannels;
    for (int64_t k = 0; k < kernel; ++k) column[(k + kDepthwiseTile - 1) * kDepthwiseChannels] = weight[c * kernel + k];
  }
}

}  // namespace earshot
