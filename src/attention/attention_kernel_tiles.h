// The tiles of AMX: eight registers of 16 rows of 64 bytes. See attention_kernel_lanes.h for who includes this.
//
// Not by GCC's intrinsics: those of version 12 do not say that they read memory, so that stores before them may be
// moved behind.
#pragma once

#include "src/attention/attention_kernel_operand.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

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

template <int kTile, int kTiles>
EARSHOT_INLINE void LoadOperand(const Operand& operand, int part) {
  const auto* at = static_cast<const char*>(operand.at) + part * operand.part;
  TileLoadBytes<kTile>(reinterpret_cast<const float*>(at), operand.step);
  if (kTiles == 2) TileLoadBytes<kTile + 1>(reinterpret_cast<const float*>(at + operand.second), operand.step);
}
template <int kRowTiles, int kColumnTiles>
EARSHOT_INLINE void MultiplyAddTiles() {
  TileMultiplyAdd<0, 4, 6>();
  if (kColumnTiles == 2) TileMultiplyAdd<1, 4, 7>();
  if (kRowTiles == 2) TileMultiplyAdd<2, 5, 6>();
  if (kRowTiles == 2 && kColumnTiles == 2) TileMultiplyAdd<3, 5, 7>();
}

struct Nothing {
  EARSHOT_INLINE void operator()() const {}
};
// Tiles 0 to 3, which are the sums of (row, column) tiles (0, 0), (0, 1), (1, 0) and (1, 1), += a b, of 16 cells each.
// Of split numbers: the products of parts that matter, in an order that loads few. between(): called after each
// product, as often as kNumProducts says, so that vectors are busy while tiles are.
template <int kPartsOf>
constexpr int kNumProducts = kPartsOf == 1 ? 1 : 6;
template <int kPartsOf, int kRowTiles, int kColumnTiles, class Between = Nothing>
EARSHOT_INLINE void MultiplyAddOperands(const Operand& a, const Operand& b, Between&& between = {}) {
  LoadOperand<4, kRowTiles>(a, 0);
  LoadOperand<6, kColumnTiles>(b, 0);
  MultiplyAddTiles<kRowTiles, kColumnTiles>();
  between();
  if (kPartsOf == 1) return;
  LoadOperand<6, kColumnTiles>(b, 2);
  MultiplyAddTiles<kRowTiles, kColumnTiles>();
  between();
  LoadOperand<6, kColumnTiles>(b, 1);
  MultiplyAddTiles<kRowTiles, kColumnTiles>();
  between();
  LoadOperand<4, kRowTiles>(a, 1);
  MultiplyAddTiles<kRowTiles, kColumnTiles>();
  between();
  LoadOperand<6, kColumnTiles>(b, 0);
  MultiplyAddTiles<kRowTiles, kColumnTiles>();
  between();
  LoadOperand<4, kRowTiles>(a, 2);
  MultiplyAddTiles<kRowTiles, kColumnTiles>();
  between();
}
EARSHOT_INLINE void ZeroSums() {
  TileZero<0>();
  TileZero<1>();
  TileZero<2>();
  TileZero<3>();
}
// The sums that there are, `step` cells from row to row, from tile to tile `row_tile` and `column_tile` cells.
template <int kRowTiles, int kColumnTiles>
EARSHOT_INLINE void LoadSumTiles(const float* from, std::ptrdiff_t step, std::ptrdiff_t row_tile,
                                 std::ptrdiff_t column_tile) {
  TileLoad<0>(from, step);
  if (kColumnTiles == 2) TileLoad<1>(from + column_tile, step);
  if (kRowTiles == 2) TileLoad<2>(from + row_tile, step);
  if (kRowTiles == 2 && kColumnTiles == 2) TileLoad<3>(from + row_tile + column_tile, step);
}
template <int kRowTiles, int kColumnTiles>
EARSHOT_INLINE void StoreSumTiles(float* to, std::ptrdiff_t step, std::ptrdiff_t row_tile, std::ptrdiff_t column_tile) {
  TileStore<0>(to, step);
  if (kColumnTiles == 2) TileStore<1>(to + column_tile, step);
  if (kRowTiles == 2) TileStore<2>(to + row_tile, step);
  if (kRowTiles == 2 && kColumnTiles == 2) TileStore<3>(to + row_tile + column_tile, step);
}

template <int kPartsOf, int kRowTiles, int kColumnTiles, bool kAdd, class OperandsOf>
EARSHOT_INLINE void MultiplyTiles(const SumTiles& sums, int count, OperandsOf&& operands_of) {
  if (kAdd) {
    LoadSumTiles<kRowTiles, kColumnTiles>(sums.at, sums.step, sums.row_tile, sums.column_tile);
  } else {
    ZeroSums();
  }
  for (int i = 0; i < count; ++i) {
    const TileOperands operands = operands_of(i);
    MultiplyAddOperands<kPartsOf, kRowTiles, kColumnTiles>(operands.a, operands.b);
  }
  StoreSumTiles<kRowTiles, kColumnTiles>(sums.at, sums.step, sums.row_tile, sums.column_tile);
}

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
