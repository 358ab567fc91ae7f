// The forward pass with tiles: 32 queries at a time against pairs of groups of keys. See attention_kernel_lanes.h for
// who includes this.
#pragma once

#include "src/attention/attention_kernel_forward.h"
#include "src/attention/attention_kernel_tiles.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

// The exponentials of a pair of groups of keys stand between the products of the next one, so that vectors have work
// while tiles have. Two tiles of queries are computed at a time, as keys come from the second-level cache no faster
// than one tile takes them. Floats go in three parts of bf16 (Cell::kSplit): six products of tiles take less than half
// the time of fused multiply-adds by vectors, and leave out what a float's rounding is as large as.
template <Cell kCellOf>
struct TileEngine {
  static constexpr Cell kCell = kCellOf;
  static constexpr int kPartsOf = kParts<kCell>;
  static constexpr int kRows = 2 * kTileRows;
  static constexpr int kEmptyGroups = 1;             // the second of the last pair
  static constexpr int kMaxPairs = kMaxChunkGroups;  // all groups may be alone
  static constexpr int kPairKeys = 2 * kGroup;
  // Whose weights stay in the first-level cache until they are multiplied.
  static constexpr int kValuePairs = kPartsOf == 1 ? 16 : 4;
  static constexpr int kWeightCells = kRows * kPairKeys / 2;  // of a pair's weights, or of a part of them

  void LoadQueries(const AttentionArguments& arguments, const KeyUnitView& unit, const Tile& tile) {
    const int d = arguments.head_dim, cells = KeyCells<kCell>(d);
    row_tiles = tile.end_row - tile.first_row > kTileRows ? 2 : 1;
    queries.part = cells / kPartsOf * 4;
    if (kCell == Cell::kShorts && tile.end_row - tile.first_row == row_tiles * kTileRows && d * 2 == cells * 4) {
      queries.at = HeadRow(arguments.q, arguments.type, unit.first_query + tile.first_row, tile.head);
      queries.step = arguments.q.frame_stride * 2;
    } else {
      queries.at = copies;
      queries.step = kCopyStep<kCell> * 4;
      for (int r = 0; r < row_tiles * kTileRows; ++r) {
        const int64_t frame = unit.first_query + tile.first_row + r;
        if (tile.first_row + r < tile.end_row) {
          LoadRow<kCell>(arguments.type, HeadRow(arguments.q, arguments.type, frame, tile.head), d, cells,
                         copies + r * kCopyStep<kCell>);
        } else {
          ZeroRow(cells, copies + r * kCopyStep<kCell>);
        }
      }
    }
    queries.second = kTileRows * queries.step;
  }

  // queries x keys of the groups `group` and group + 1 -> to: (rows, 32).
  template <int kRowTiles, class Between>
  EARSHOT_INLINE void Multiply(const KeyChunk& chunk, int group, int key_cells, float* to, Between&& between) {
    const float* keys = chunk.keys + static_cast<std::ptrdiff_t>(group) * key_cells * kGroup;
    const int part = key_cells / kPartsOf;
    ZeroSums();
    for (int c = 0; c < part; c += 16) {
      MultiplyAddOperands<kPartsOf, kRowTiles, 2>(
          {static_cast<const char*>(queries.at) + c * 4, queries.step, queries.second, queries.part},
          {keys + c * kGroup, kGroup * 4, key_cells * kGroup * 4, part * kGroup * 4}, between);
    }
    StoreSumTiles<kRowTiles, 2>(to, kPairKeys, kTileRows * kPairKeys, kGroup);
  }
  template <class Between = Nothing>
  EARSHOT_INLINE void Multiply(const KeyChunk& chunk, int group, int key_cells, float* to, Between&& between = {}) {
    if (row_tiles == 1) {
      Multiply<1>(chunk, group, key_cells, to, between);
    } else {
      Multiply<2>(chunk, group, key_cells, to, between);
    }
  }

  // logits: (rows, 32) -> weights: (rows, 32) bf16, of each part, and their sums.
  template <bool kOffset, bool kCut>
  EARSHOT_INLINE void Weigh(const KeyChunk& chunk, int group, int first_row, __m512 scale, const float* offsets,
                            const float* logits, float* to, int begin, int end) {
    const int at = group * kGroup;
    const __m512 bias[2] = {_mm512_loadu_ps(chunk.bias + at), _mm512_loadu_ps(chunk.bias + at + kGroup)};
#pragma GCC unroll 4
    for (int r = begin; r < end; ++r) {
      __m512 weights[2];
#pragma GCC unroll 2
      for (int g = 0; g < 2; ++g) {
        __m512 x = _mm512_fmadd_ps(_mm512_load_ps(logits + r * kPairKeys + g * kGroup), scale, bias[g]);
        if (kOffset) x = _mm512_sub_ps(x, _mm512_set1_ps(offsets[r]));
        weights[g] = Exponential(x);
        if (kCut) {
          const int key = at + g * kGroup;
          const __m512i row = _mm512_set1_epi32(first_row + r);
          const __mmask16 begun = _mm512_cmple_epi32_mask(_mm512_loadu_si512(chunk.first + key), row);
          weights[g] = _mm512_maskz_mov_ps(
              _mm512_mask_cmpgt_epi32_mask(begun, _mm512_loadu_si512(chunk.end + key), row), weights[g]);
        }
      }
      row_sums[r] = row_sums[r] + reinterpret_cast<FloatVector>(_mm512_add_ps(weights[0], weights[1]));
      if (kPartsOf == 1) {
        const __m512bh shorts = _mm512_cvtne2ps_pbh(weights[1], weights[0]);
        __builtin_memcpy(to + r * 16, &shorts, sizeof(shorts));
        continue;
      }
#pragma GCC unroll 3
      for (int part = 0; part < kPartsOf; ++part) {
        _mm512_store_si512(to + part * kWeightCells + r * 16, UpperHalves(weights[0], weights[1]));
        for (__m512& weight : weights) weight = BelowUpperHalf(weight);
      }
    }
  }
  static EARSHOT_INLINE __m512 Exponential(__m512 x) {
    if (kPartsOf == 1) return FastExp2(x);
    return reinterpret_cast<__m512>(Exp2<true>(reinterpret_cast<FloatVector>(x)));
  }

  // The weights of pair p, while the logits of the next one are computed.
  template <bool kOffset>
  EARSHOT_INLINE void WeighPair(const AttentionArguments& arguments, const KeyChunk& chunk, int first_row, int p,
                                const float* offsets) {
    const int key_cells = KeyCells<kCell>(arguments.head_dim), rows = row_tiles * kTileRows;
    const int slots = key_cells / kPartsOf / 16 * kNumProducts<kPartsOf>, of_slot = (rows + slots - 1) / slots;
    const __m512 scale = _mm512_set1_ps(arguments.scale * kLog2E);
    float* to = weights_of[p % kValuePairs];
    int row = 0;
    const auto weigh = [&] {
      const int begin = row;
      row = Least(row + of_slot, rows);
      if (cut[p]) {
        Weigh<kOffset, true>(chunk, pairs[p], first_row, scale, offsets, logits_of[p % 2], to, begin, row);
      } else {
        Weigh<kOffset, false>(chunk, pairs[p], first_row, scale, offsets, logits_of[p % 2], to, begin, row);
      }
    };
    if (p + 1 < num_pairs) {
      Multiply(chunk, pairs[p + 1], key_cells, logits_of[(p + 1) % 2], weigh);
    } else {
      while (row < rows) weigh();
    }
  }

  // out: (rows, ValueCells) += weights x values, for kBlocks blocks of 16 channels from `c` on.
  template <int kRowTiles, int kBlocks>
  EARSHOT_INLINE void AddValues(const KeyChunk& chunk, int head_dim, int c, int first, int end, const TileSums& sums) {
    float* to = sums.out + c;
    const int value_cells = ValueCells(head_dim), packed_cells = PackedValueCells<kCell>(head_dim);
    const int second_row = kTileRows * value_cells;
    ZeroSums();
    if (!sums.fresh || first > 0) LoadSumTiles<kRowTiles, kBlocks>(to, value_cells, second_row, kGroup);
    for (int p = first; p < end; ++p) {
      MultiplyAddOperands<kPartsOf, kRowTiles, kBlocks>(
          {weights_of[p % kValuePairs], 64, kTileCells * 4, kWeightCells * 4},
          {chunk.values + static_cast<std::ptrdiff_t>(pairs[p]) * (kGroup / 2) * packed_cells + c, packed_cells * 4, 64,
           packed_cells / kPartsOf * 4});
    }
    StoreSumTiles<kRowTiles, kBlocks>(to, value_cells, second_row, kGroup);
  }
  template <int kRowTiles>
  void AddAllValues(const KeyChunk& chunk, int head_dim, int first, int end, const TileSums& sums) {
    int c = 0;
    for (; c + 32 <= ValueCells(head_dim); c += 32) AddValues<kRowTiles, 2>(chunk, head_dim, c, first, end, sums);
    if (c < ValueCells(head_dim)) AddValues<kRowTiles, 1>(chunk, head_dim, c, first, end, sums);
  }

  // Neighbouring groups go in pairs, wherever the first is; the second need not be visible.
  void FindPairs(const VisibleGroups& visible) {
    num_pairs = 0;
    for (int i = 0; i < visible.count; ++num_pairs) {
      const bool both = i + 1 < visible.count && visible.group[i + 1] == visible.group[i] + 1;
      pairs[num_pairs] = visible.group[i];
      cut[num_pairs] = !both || visible.cut[i] || visible.cut[i + 1];
      i += both ? 2 : 1;
    }
  }

  template <bool kOffset>
  __attribute__((noinline)) void Accumulate(const AttentionArguments& arguments, const KeyChunk& chunk,
                                            const VisibleGroups& visible, const Tile& tile, const TileSums& sums,
                                            Prefetch& prefetch) {
    FindPairs(visible);
    for (FloatVector& sum : row_sums) sum = FloatVector{};
    prefetch.Spread(num_pairs);
    if (num_pairs > 0) Multiply(chunk, pairs[0], KeyCells<kCell>(arguments.head_dim), logits_of[0]);
    for (int first = 0; first < num_pairs; first += kValuePairs) {
      const int end = Least(first + kValuePairs, num_pairs);
      for (int p = first; p < end; ++p) {
        prefetch.Step();
        WeighPair<kOffset>(arguments, chunk, tile.first_row, p, sums.offsets);
      }
      if (row_tiles == 1) {
        AddAllValues<1>(chunk, arguments.head_dim, first, end, sums);
      } else {
        AddAllValues<2>(chunk, arguments.head_dim, first, end, sums);
      }
    }
    for (int t = 0; t < row_tiles; ++t) {
      FloatVector rows[kTileRows];
      for (int r = 0; r < kTileRows; ++r) rows[r] = row_sums[t * kTileRows + r];
      float* to = sums.sums + t * kTileRows;
      Store(Load(to) + SumRows(rows), to);
    }
  }

  __attribute__((noinline)) void Search(const AttentionArguments& arguments, const KeyChunk& chunk,
                                        const VisibleGroups& visible, const Tile& tile, const TileSums& sums) {
    const __m512 scale = _mm512_set1_ps(arguments.scale * kLog2E);
    const int key_cells = KeyCells<kCell>(arguments.head_dim);
    for (int r = 0; r < row_tiles * kTileRows; ++r) row_sums[r] = Broadcast(sums.offsets[r]);
    FindPairs(visible);
    for (int p = 0; p < num_pairs; ++p) {
      Multiply(chunk, pairs[p], key_cells, logits_of[0]);
      for (int r = 0; r < row_tiles * kTileRows; ++r) {
        for (int g = 0; g < 2; ++g) {
          const int at = (pairs[p] + g) * kGroup;
          const __m512 x = _mm512_fmadd_ps(_mm512_load_ps(logits_of[0] + r * kPairKeys + g * kGroup), scale,
                                           _mm512_loadu_ps(chunk.bias + at));
          const __m512i row = _mm512_set1_epi32(tile.first_row + r);
          const __mmask16 begun = _mm512_cmple_epi32_mask(_mm512_loadu_si512(chunk.first + at), row);
          const __mmask16 seen = _mm512_mask_cmpgt_epi32_mask(begun, _mm512_loadu_si512(chunk.end + at), row);
          const auto largest = reinterpret_cast<__m512>(row_sums[r]);
          row_sums[r] = reinterpret_cast<FloatVector>(_mm512_mask_max_ps(largest, seen, largest, x));
        }
      }
    }
    for (int r = 0; r < row_tiles * kTileRows; ++r) sums.offsets[r] = Largest(row_sums[r]);
  }

  Operand queries;  // where they are, if they are bf16 and whole tiles of them, else `copies`
  alignas(64) float copies[kRows * kCopyStep<kCell>];
  alignas(64) float logits_of[2][kRows * kPairKeys];
  alignas(64) float weights_of[kValuePairs][kPartsOf * kWeightCells];
  alignas(64) FloatVector row_sums[kRows];  // in the search, the largest so far
  int row_tiles;                            // of 16 queries: 2, or 1 at the end of a unit
  int num_pairs;
  int16_t pairs[kMaxPairs];  // the first group of each
  bool cut[kMaxPairs];
};

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
