// Four channels at a time, with whatever the compiler may use by default: SSE2 on x86-64, NEON on AArch64.
#define EARSHOT_KERNEL_LANES 4
#define EARSHOT_KERNEL_NAMESPACE row_kernel_baseline
#include "src/nn/row_kernel_lanes.h"
