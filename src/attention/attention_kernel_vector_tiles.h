// Products of tiles by vectors of pairs of bf16, see attention_kernel_operand.h: 8 rows at a time, whose sums stay in
// registers through all of a sum's products. See attention_kernel_lanes.h for who includes this.
#pragma once

#include "src/attention/attention_kernel_operand.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Numbers that are split into parts go by fused multiply-adds where there are no tiles. Steps are of whole cells here.
template <int kPartsOf, int kRowTiles, int kColumnTiles, bool kAdd, class OperandsOf>
EARSHOT_INLINE void MultiplyTiles(const SumTiles& sums, int count, OperandsOf&& operands_of) {
  static_assert(kPartsOf == 1 && kLanes == kTileRows && kTileRows % kMicroRows == 0);
  for (int first = 0; first < kRowTiles * kTileRows; first += kMicroRows) {
    const int tile = first / kTileRows, row = first % kTileRows;
    float* to = sums.at + tile * sums.row_tile + row * sums.step;
    FloatVector of_rows[kMicroRows][kColumnTiles] = {};
    if (kAdd) LoadSums(to, sums.step, of_rows, sums.column_tile);
    for (int i = 0; i < count; ++i) {
      const TileOperands operands = operands_of(i);
      const Operand &a = operands.a, &b = operands.b;
      const auto* rows = static_cast<const char*>(a.at) + tile * a.second + row * a.step;
      AddProduct<Cell::kShorts>(of_rows, reinterpret_cast<const float*>(rows), a.step / 4, 1,
                                static_cast<const float*>(b.at), b.step / 4, kTileRows, b.second / 4);
    }
    StoreSums(of_rows, to, sums.step, sums.column_tile);
  }
}

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
