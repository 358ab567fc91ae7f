// Forces a SIMD level while it lives: ScopedSimdLevel level(SimdLevel::kAvx2);
#pragma once

#include <cstdlib>
#include <string>

#include "src/base/simd_level.h"

namespace earshot {

class ScopedSimdLevel {
 public:
  explicit ScopedSimdLevel(const std::string& name) {
    if (const char* before = std::getenv("EARSHOT_SIMD")) before_ = before;
    setenv("EARSHOT_SIMD", name.c_str(), 1);
  }
  explicit ScopedSimdLevel(SimdLevel level) : ScopedSimdLevel(std::string(Name(level))) {}
  ~ScopedSimdLevel() { setenv("EARSHOT_SIMD", before_.c_str(), 1); }
  ScopedSimdLevel(const ScopedSimdLevel&) = delete;
  ScopedSimdLevel& operator=(const ScopedSimdLevel&) = delete;

 private:
  std::string before_;  // empty: the best level
};

}  // namespace earshot
