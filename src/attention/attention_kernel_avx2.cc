// Eight lanes; compiled with -mavx2 -mfma.
#define EARSHOT_KERNEL_LANES 8
#define EARSHOT_KERNEL_NAMESPACE attention_avx2
#include "src/attention/attention_kernel_vectors.h"
