// Sixteen channels at a time, bf16 by instructions made for it; compiled with -mavx512bf16 and what that stands on.
#define EARSHOT_KERNEL_LANES 16
#define EARSHOT_KERNEL_NAMESPACE row_kernel_avx512bf16
#include "src/nn/row_kernel_lanes.h"
