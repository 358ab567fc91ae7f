#include "src/attention/cuda_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace earshot {
namespace {

struct Library {
  const CudaAttentionTable* table = nullptr;
  std::string missing;
};

Library Load() {
  // Never closed: its kernels may run until the process ends.
  void* handle = dlopen("libearshot_cuda.so", RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* why = dlerror();
    return {.missing = fmt::format("libearshot_cuda.so cannot be loaded ({})", why ? why : "no reason given")};
  }
  const auto function = reinterpret_cast<CudaAttentionTableFunction>(dlsym(handle, kCudaAttentionTable));
  const CudaAttentionTable* table = function ? function() : nullptr;
  if (!table || table->version != kCudaAttentionVersion) {
    return {.missing = fmt::format("libearshot_cuda.so is of version {}, this program needs {}",
                                   table ? table->version : 0, kCudaAttentionVersion)};
  }
  return {.table = table};
}

const Library& TheLibrary() {
  static const Library library = Load();
  return library;
}

}  // namespace

const CudaAttentionTable* CudaAttentionLibrary() { return TheLibrary().table; }
const std::string& CudaAttentionMissing() { return TheLibrary().missing; }

}  // namespace earshot
