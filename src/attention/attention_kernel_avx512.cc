// Sixteen lanes; compiled with -mavx512f.
#define EARSHOT_KERNEL_LANES 16
#define EARSHOT_KERNEL_NAMESPACE attention_avx512
#include "src/attention/attention_kernel_vectors.h"
