// Products of tiles by vectors of pairs of bf16, see attention_kernel_operand.h: 8 rows at a time, whose sums stay in
// registers through all of a sum's products. See attention_kernel_lanes.h for who includes this.
#pragma once

#include "src/attention/attention_kernel_operand.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Numbers that are split into parts go by fused multiply-adds where there are no tiles.
template <int kPartsOf, int kRowTiles, int kColumnTiles, bool kAdd, class OperandsOf>
EARSHOT_INLINE void MultiplyTiles(const SumTiles& sums, int count, OperandsOf&& operands_of) {
  static_assert(kPartsOf == 1 && kLanes == kTileRows && kTileRows % kMicroRows == 0);
  for (int first = 0; first < kRowTiles * kTileRows; first += kMicroRows) {
    const int tile = first / kTileRows, row = first % kTileRows;
    FloatVector sum[kMicroRows][kColumnTiles] = {};
    float* to = sums.at + tile * sums.row_tile + row * sums.step;
    if (kAdd) {
#pragma GCC unroll 8
      for (int r = 0; r < kMicroRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kColumnTiles; ++v) sum[r][v] = Load(to + r * sums.step + v * sums.column_tile);
      }
    }
    for (int i = 0; i < count; ++i) {
      const TileOperands operands = operands_of(i);
      const Operand &a = operands.a, &b = operands.b;
      const auto* a_rows = static_cast<const char*>(a.at) + tile * a.second + row * a.step;
      const auto* b_row = static_cast<const char*>(b.at);
#pragma GCC unroll 1
      for (int k = 0; k < 16; ++k) {
        FloatVector columns[kColumnTiles];
#pragma GCC unroll 2
        for (int v = 0; v < kColumnTiles; ++v) columns[v] = Load(reinterpret_cast<const float*>(b_row + v * b.second));
#pragma GCC unroll 8
        for (int r = 0; r < kMicroRows; ++r) {
          const float cell = *reinterpret_cast<const float*>(a_rows + r * a.step);
#pragma GCC unroll 2
          for (int v = 0; v < kColumnTiles; ++v) sum[r][v] = MultiplyAdd<Cell::kShorts>(sum[r][v], cell, columns[v]);
        }
        a_rows += sizeof(float);
        b_row += b.step;
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kMicroRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kColumnTiles; ++v) Store(sum[r][v], to + r * sums.step + v * sums.column_tile);
    }
  }
}

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
