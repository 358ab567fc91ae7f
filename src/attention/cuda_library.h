// The GPU's attention kernels, loaded at run time: the same program starts on machines without CUDA.
#pragma once

#include "src/attention/cuda/attention_cuda.h"

namespace earshot {

// The kernels, or null where libearshot_cuda.so is neither beside the program nor where the loader looks, or is another
// build's. Looked for once; thread-safe.
const CudaAttentionTable* CudaAttentionLibrary();

}  // namespace earshot
