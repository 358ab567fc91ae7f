#include "src/model/precision.h"

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {

std::optional<InferencePrecision> ParsePrecision(const std::string& name, torch::Device device) {
  const bool is_auto = name == "auto", is_float = name == "float", is_int8 = name == "int8";
  if (!is_auto && !is_float && !is_int8 && name != "bfloat16")
    Throw("precision '{}': expected auto, float, bfloat16 or int8{}", name,
          Suggestion(name, {"auto", "float", "bfloat16", "int8"}));
  if (!device.is_cpu()) {
    if (is_auto || is_float) return std::nullopt;
    Throw("precision '{}': is for the CPU, and the model is on {}; use auto or float", name, device.str());
  }
  if (is_float) return InferencePrecision::kFloat;
  if (is_auto) return Supported(InferencePrecision::kBFloat16);
  const InferencePrecision wanted = is_int8 ? InferencePrecision::kInt8 : InferencePrecision::kBFloat16;
  if (Supported(wanted) != wanted)
    Throw("precision '{}': this CPU has no instructions for it; use auto or float", name);
  return wanted;
}

}  // namespace earshot
