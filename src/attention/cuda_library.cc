#include "src/attention/cuda_library.h"

#include <dlfcn.h>

#include <filesystem>

namespace earshot {
namespace {

constexpr const char* kName = "libearshot_cuda.so";

// Never closed: its kernels may run until the process ends.
void* Open() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::filesystem::path beside = program.parent_path() / kName;
    if (void* handle = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  }
  return dlopen(kName, RTLD_NOW | RTLD_LOCAL);
}

const CudaAttentionTable* Load() {
  void* handle = Open();
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
