// Eight channels at a time, compiled with -mavx2 -mfma.
#define EARSHOT_KERNEL_LANES 8
#define EARSHOT_KERNEL_NAMESPACE row_kernel_avx2
#include "src/nn/row_kernel_lanes.h"
