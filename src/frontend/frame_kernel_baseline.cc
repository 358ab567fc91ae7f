// Four frames at a time, with whatever the compiler may use by default: SSE2 on x86-64, NEON on AArch64.
#define EARSHOT_KERNEL_LANES 4
#define EARSHOT_KERNEL_NAMESPACE kernel_baseline
#include "src/frontend/frame_kernel_lanes.h"
