// Sixteen frames at a time; compiled with -mavx512f.
#define EARSHOT_KERNEL_LANES 16
#define EARSHOT_KERNEL_NAMESPACE kernel_avx512
#include "src/frontend/frame_kernel_lanes.h"
