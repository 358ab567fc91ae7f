#include "src/base/simd_level.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "src/base/error.h"
#include "src/base/nearest.h"

#if defined(EARSHOT_X86_KERNELS)
#include <cpuid.h>
#endif
#if defined(EARSHOT_X86_KERNELS) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace earshot {
namespace {

#if defined(EARSHOT_X86_KERNELS)
// Leaf 7: GCC 12 has no name for these in __builtin_cpu_supports.
bool HasTilesOfBf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  return (edx & kAmxBf16) != 0 && (edx & kAmxTile) != 0;
}

// Linux saves the 8 KB of tiles only for processes that asked for it; threads that start later inherit it.
bool MayUseTiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kArchReqXcompPerm = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}
#endif

std::vector<SimdLevel> FindSimdLevels() {
  std::vector<SimdLevel> levels = {SimdLevel::kBaseline};
#if defined(EARSHOT_X86_KERNELS)
  // Each level asks for just what its files are compiled with (the CMakeLists.txt of frontend and attention); libgcc
  // asks the system too, whether it saves the wide registers.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return levels;
  levels.push_back(SimdLevel::kAvx2);
  if (!__builtin_cpu_supports("avx512f")) return levels;
  levels.push_back(SimdLevel::kAvx512);
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bf16"))
    return levels;
  levels.push_back(SimdLevel::kAvx512Bf16);
  if (HasTilesOfBf16() && MayUseTiles()) levels.push_back(SimdLevel::kAmx);
#endif
  return levels;
}

}  // namespace

const char* Name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kBaseline: return "baseline";
    case SimdLevel::kAvx2: return "avx2";
    case SimdLevel::kAvx512: return "avx512";
    case SimdLevel::kAvx512Bf16: return "avx512bf16";
    case SimdLevel::kAmx: return "amx";
  }
  EARSHOT_CHECK(false, "SIMD level {}", static_cast<int>(level));
}

std::vector<SimdLevel> SupportedSimdLevels(SimdLevel highest) {
  static const std::vector<SimdLevel> kLevels = FindSimdLevels();
  return {kLevels.begin(), std::upper_bound(kLevels.begin(), kLevels.end(), highest)};
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
