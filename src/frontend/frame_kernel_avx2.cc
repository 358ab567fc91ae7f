// Eight frames at a time; compiled with -mavx2 -mfma.
#define EARSHOT_KERNEL_LANES 8
#define EARSHOT_KERNEL_NAMESPACE kernel_avx2
#include "src/frontend/frame_kernel_lanes.h"
