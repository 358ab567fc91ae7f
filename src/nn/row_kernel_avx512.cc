// Sixteen channels at a time, compiled with -mavx512f.
#define EARSHOT_KERNEL_LANES 16
#define EARSHOT_KERNEL_NAMESPACE row_kernel_avx512
#include "src/nn/row_kernel_lanes.h"
