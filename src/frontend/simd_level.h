// Which vector instructions the front end uses: the best that the CPU has, unless told otherwise.
//
//   EARSHOT_SIMD=avx2 earshot features ...   # baseline, avx2 or avx512
//
// Between levels features differ in the last bits (fused multiply-add, order of lanes); within one they are
// the same however they are computed.
#pragma once

#include <vector>

namespace earshot {

// kBaseline runs everywhere; the others are built for x86-64 only.
enum class SimdLevel { kBaseline, kAvx2, kAvx512 };

// baseline, avx2, avx512.
const char* Name(SimdLevel level);

// What was built and this CPU has, in rising order.
std::vector<SimdLevel> SupportedSimdLevels();

// The last of them, or what the environment variable EARSHOT_SIMD names; it is read at each call.
// Throws Error when that is unknown or not supported here.
SimdLevel ChooseSimdLevel();

}  // namespace earshot
