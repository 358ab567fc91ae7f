// The tiles of AMX: eight registers of 16 rows of 64 bytes. See attention_kernel_lanes.h for who includes this.
//
// Not by GCC's intrinsics: those of version 12 do not say that they read memory, so that stores before them may be
// moved behind.
#pragma once

#include "src/attention/attention_kernel_product.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

constexpr int kTileRows = 16;
constexpr int kTileCells = kTileRows * 16;  // 1 KB

// Tiles may be used while one lives.
class TileScope {
 public:
  TileScope() {
    alignas(64) unsigned char config[64] = {1};  // palette 1
    for (int t = 0; t < 8; ++t) {
      config[16 + 2 * t] = 64;  // bytes of a row
      config[48 + t] = kTileRows;
    }
    asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
  }
  // Other code (oneDNN) finds tiles as at the start of the process, and the system has less to save.
  ~TileScope() { asm volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

template <int kTile>
EARSHOT_INLINE void TileZero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// 16 rows of 64 bytes, `step` bytes apart.
template <int kTile>
EARSHOT_INLINE void TileLoadBytes(const float* from, std::ptrdiff_t step) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(step) : "memory");
}
// The same with `step` in cells.
template <int kTile>
EARSHOT_INLINE void TileLoad(const float* from, std::ptrdiff_t step) {
  TileLoadBytes<kTile>(from, step * 4);
}
template <int kTile>
EARSHOT_INLINE void TileStore(float* to, std::ptrdiff_t step) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to), "r"(step * 4) : "memory");
}
// sum[m][n] += a[m][2k] b[k][2n] + a[m][2k + 1] b[k][2n + 1], of bf16, for k < 16.
template <int kSum, int kA, int kB>
EARSHOT_INLINE void TileMultiplyAdd() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
