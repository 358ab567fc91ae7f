// What products of tiles read and write: tiles of 16 rows of 16 cells, a cell being a pair of bf16 in what is read and
// a float in what is written. See attention_kernel_lanes.h for who includes this.
#pragma once

#include "src/attention/attention_kernel_product.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

constexpr int kTileRows = 16;
constexpr int kTileCells = kTileRows * 16;  // 1 KB

// A factor of a product: one tile, or two of rows (of a) or columns (of b), with rows `step` bytes apart, the second
// tile `second` bytes on, the next part of a split number `part` bytes on.
struct Operand {
  const void* at = nullptr;
  std::ptrdiff_t step = 0, second = 0, part = 0;
};
struct TileOperands {
  Operand a, b;
};

// Sums of up to two by two tiles, in cells from row to row, and to the next tile of rows and of columns.
struct SumTiles {
  float* at = nullptr;
  std::ptrdiff_t step = 0, row_tile = 0, column_tile = 0;
};

// sums = the sum over i < count of a b, added to what is there with kAdd, where operands_of(i) gives a and b, and for
// each row m and column n of tiles
//
//   (a b)[m][n] = sum over k < 16 of a[m][2k] b[k][2n] + a[m][2k + 1] b[k][2n + 1] .
//
// A level defines it by including attention_kernel_tiles.h (AMX) or attention_kernel_vector_tiles.h.
template <int kPartsOf, int kRowTiles, int kColumnTiles, bool kAdd, class OperandsOf>
EARSHOT_INLINE void MultiplyTiles(const SumTiles& sums, int count, OperandsOf&& operands_of);

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
