// A pattern's terms in the form that the GPU builds lists of. Plain C++, free of torch and CUDA.
//
//   CudaListArguments arguments;
//   if (!AddPatternTerms(pattern, &arguments)) ...      // build the lists on the host, and pass them as `also`
//
// As Pattern::MaySee: the memory term adds nothing and learned selection the frame's own block; the rows of both come
// as CudaListArguments::also. Hierarchical is no such term: its seams lie on cells.
#pragma once

#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/pattern.h"

namespace earshot {

// False, and arguments as they were, with a hierarchical term, more than kCudaMaxTerms, or numbers beyond 2^29.
bool AddPatternTerms(const Pattern& pattern, CudaListArguments* arguments);

}  // namespace earshot
