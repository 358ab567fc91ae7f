#include "src/attention/cuda_library.h"

#include <dlfcn.h>

namespace earshot {
namespace {

const CudaAttentionTable* Load() {
  // Never closed: its kernels may run until the process ends.
  void* handle = dlopen("libearshot_cuda.so", RTLD_NOW | RTLD_LOCAL);
  if (!handle) return nullptr;
  const auto function = reinterpret_cast<CudaAttentionTableFunction>(dlsym(handle, kCudaAttentionTable));
  const CudaAttentionTable* table = function ? function() : nullptr;
  return table && table->version == kCudaAttentionVersion ? table : nullptr;
}

}  // namespace

const CudaAttentionTable* CudaAttentionLibrary() {
  static const CudaAttentionTable* const table = Load();
  return table;
}

}  // namespace earshot
