#include "src/frontend/simd_level.h"

#include <cstdlib>
#include <string>

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {

const char* Name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kBaseline: return "baseline";
    case SimdLevel::kAvx2: return "avx2";
    case SimdLevel::kAvx512: return "avx512";
  }
  EARSHOT_CHECK(false, "SIMD level {}", static_cast<int>(level));
}

std::vector<SimdLevel> SupportedSimdLevels() {
  std::vector<SimdLevel> levels = {SimdLevel::kBaseline};
#if defined(EARSHOT_X86_KERNELS)
  // Each level asks for just what its file is compiled with (CMakeLists.txt); libgcc asks the system too,
  // whether it saves the wide registers.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels.push_back(SimdLevel::kAvx2);
  if (levels.size() == 2 && __builtin_cpu_supports("avx512f")) levels.push_back(SimdLevel::kAvx512);
#endif
  return levels;
}

SimdLevel ChooseSimdLevel() {
  const std::vector<SimdLevel> levels = SupportedSimdLevels();
  const char* wanted = std::getenv("EARSHOT_SIMD");
  if (wanted == nullptr || *wanted == '\0') return levels.back();
  std::vector<std::string> names;
  for (const SimdLevel level : levels) {
    if (wanted == std::string(Name(level))) return level;
    names.emplace_back(Name(level));
  }
  Throw("EARSHOT_SIMD: '{}' is no level that this CPU supports{}", wanted, Suggestion(wanted, names));
}

}  // namespace earshot
