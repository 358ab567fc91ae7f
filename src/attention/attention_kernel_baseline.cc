// Four lanes, with whatever the compiler may use by default: SSE2 on x86-64, NEON on AArch64.
#define EARSHOT_KERNEL_LANES 4
#define EARSHOT_KERNEL_NAMESPACE attention_baseline
#include "src/attention/attention_kernel_vectors.h"
