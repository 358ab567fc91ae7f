// Which vector instructions the kernels use: the best that the CPU has, unless told otherwise.
//
//   EARSHOT_SIMD=avx2 earshot features ...   # baseline, avx2, avx512, avx512bf16 or amx
//
// A level has all that those below it have. Between levels results differ in the last bits (fused multiply-add, order
// of lanes); within one they are the same however they are computed. A kernel that gains nothing from the higher
// levels has none of its own for them and runs as the highest that it has.
#pragma once

#include <vector>

namespace earshot {

// kBaseline runs everywhere; the others are built for x86-64 only.
enum class SimdLevel {
  kBaseline,
  kAvx2,        // with FMA
  kAvx512,      // AVX-512 F
  kAvx512Bf16,  // F, BW, DQ, VL and products of bf16
  kAmx,         // those, and tiles of bf16
};

// baseline, avx2, avx512, avx512bf16, amx.
const char* Name(SimdLevel level);

// What was built and this CPU has, in rising order, up to `highest`. Asks the system once whether the process may use
// tiles.
std::vector<SimdLevel> SupportedSimdLevels(SimdLevel highest = SimdLevel::kAmx);

// The last of them, or what the environment variable EARSHOT_SIMD names; it is read at each call.
// Throws Error when that is unknown or not supported here.
SimdLevel ChooseSimdLevel();

}  // namespace earshot
