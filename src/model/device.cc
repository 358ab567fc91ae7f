#include "src/model/device.h"

#include <dlfcn.h>
#include <torch/cuda.h>

#include "src/base/error.h"

namespace earshot {
namespace {

// Empty when CUDA is usable, else what is missing.
std::string LoadCuda() {
  static const std::string reason = []() -> std::string {
    // Not closed again: its kernels register themselves for the life of the program.
    if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
      const char* why = dlerror();
      return fmt::format("libtorch_cuda.so cannot be loaded ({})", why ? why : "no reason given");
    }
    if (!torch::cuda::is_available()) return "there is no CUDA device, or its driver is too old for this libtorch";
    return "";
  }();
  return reason;
}

}  // namespace

torch::Device ParseDevice(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  if (name != "auto" && name != "cuda" && !name.starts_with("cuda:"))
    Throw("device '{}': expected cpu, cuda, cuda:N or auto", name);
  const std::string missing = LoadCuda();
  if (name == "auto") return missing.empty() ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
  if (!missing.empty()) Throw("device '{}': {}; use --device cpu", name, missing);
  if (name == "cuda") return torch::Device(torch::kCUDA, 0);
  const std::string number = name.substr(5);
  const bool digits =
      !number.empty() && number.size() < 4 && number.find_first_not_of("0123456789") == std::string::npos;
  const int index = digits ? std::stoi(number) : -1;
  const auto count = static_cast<int>(torch::cuda::device_count());
  if (index < 0 || index >= count) Throw("device '{}': there are {} GPUs, counted from cuda:0", name, count);
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(index));
}

}  // namespace earshot
