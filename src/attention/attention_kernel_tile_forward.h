// The forward pass with tiles: 32 queries at a time against pairs of groups of keys. See attention_kernel_lanes.h for
// who includes this.
#pragma once

#include "src/attention/attention_kernel_forward.h"
#include "src/attention/attention_kernel_tiles.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

// 2^x with an error of 8e-5, for what is rounded to bf16: 2^(x - floor(x)), scaled by 2^floor(x), which is what vscalef
// does with an x that is no whole number. 0 for minus infinity.
EARSHOT_INLINE __m512 FastExp2(__m512 x) {
  constexpr int kFractionAboveFloor = 0x09;  // of no bits; without exceptions
  const __m512 f = _mm512_mask_reduce_ps(x, 0xffff, x, kFractionAboveFloor);
  __m512 power = _mm512_set1_ps(0.0780245227f);
  power = _mm512_fmadd_ps(power, f, _mm512_set1_ps(0.226067155f));
  power = _mm512_fmadd_ps(power, f, _mm512_set1_ps(0.695833541f));
  power = _mm512_fmadd_ps(power, f, _mm512_set1_ps(0.999925219f));
  return _mm512_mask_scalef_ps(x, 0xffff, power, x);
}

// Products by tiles and exponentials by vectors take turns in phases of some pairs: the two were seen to wait for each
// other where they are mixed more finely (tiles occupy one of the two units that multiply vectors). Two tiles of
// queries are computed at a time, as keys come from the second-level cache no faster than one tile takes them.
struct TileEngine {
  static constexpr Cell kCell = Cell::kShorts;
  static constexpr int kRows = 2 * kTileRows;
  static constexpr int kEmptyGroups = 1;             // the second of the last pair
  static constexpr int kMaxPairs = kMaxChunkGroups;  // all groups may be alone
  static constexpr int kPairKeys = 2 * kGroup;
  static constexpr int kPhasePairs = 2;

  void LoadQueries(const AttentionArguments& arguments, const KeyUnitView& unit, const Tile& tile) {
    const int d = arguments.head_dim, cells = KeyCells<kCell>(d);
    row_tiles = tile.end_row - tile.first_row > kTileRows ? 2 : 1;
    if (tile.end_row - tile.first_row == row_tiles * kTileRows && d * 2 == cells * 4) {
      query_rows = reinterpret_cast<const float*>(
          HeadRow(arguments.q, arguments.type, unit.first_query + tile.first_row, tile.head));
      query_step = arguments.q.frame_stride * 2;
      return;
    }
    query_rows = copies;
    query_step = kRowStep * 4;
    for (int r = 0; r < row_tiles * kTileRows; ++r) {
      const int64_t frame = unit.first_query + tile.first_row + r;
      if (tile.first_row + r < tile.end_row) {
        LoadRow<kCell>(arguments.type, HeadRow(arguments.q, arguments.type, frame, tile.head), d, cells,
                       copies + r * kRowStep);
      } else {
        ZeroRow(cells, copies + r * kRowStep);
      }
    }
  }

  // queries x keys of the groups `group` and group + 1 -> to: (rows, 32).
  template <int kRowTiles>
  EARSHOT_INLINE void Multiply(const KeyChunk& chunk, int group, int key_cells, float* to) {
    const float* keys = chunk.keys + static_cast<std::ptrdiff_t>(group) * key_cells * kGroup;
    const auto* second_rows =
        reinterpret_cast<const float*>(reinterpret_cast<const char*>(query_rows) + kTileRows * query_step);
    TileZero<0>();
    TileZero<1>();
    if (kRowTiles == 2) {
      TileZero<2>();
      TileZero<3>();
    }
    for (int c = 0; c < key_cells; c += 16) {
      TileLoadBytes<4>(query_rows + c, query_step);
      TileLoad<6>(keys + c * kGroup, kGroup);
      TileMultiplyAdd<0, 4, 6>();
      TileLoad<7>(keys + (key_cells + c) * kGroup, kGroup);
      TileMultiplyAdd<1, 4, 7>();
      if (kRowTiles == 1) continue;
      TileLoadBytes<5>(second_rows + c, query_step);
      TileMultiplyAdd<2, 5, 6>();
      TileMultiplyAdd<3, 5, 7>();
    }
    TileStore<0>(to, kPairKeys);
    TileStore<1>(to + kGroup, kPairKeys);
    if (kRowTiles == 1) return;
    TileStore<2>(to + kTileRows * kPairKeys, kPairKeys);
    TileStore<3>(to + kTileRows * kPairKeys + kGroup, kPairKeys);
  }

  // logits: (rows, 32) -> weights: (rows, 32) bf16, and their sums.
  template <bool kOffset, bool kCut>
  EARSHOT_INLINE void Weigh(const KeyChunk& chunk, int group, int first_row, __m512 scale, const float* offsets,
                            const float* logits, float* to) {
    const int at = group * kGroup;
    const __m512 bias[2] = {_mm512_loadu_ps(chunk.bias + at), _mm512_loadu_ps(chunk.bias + at + kGroup)};
#pragma GCC unroll 4
    for (int r = 0; r < row_tiles * kTileRows; ++r) {
      __m512 weights[2];
#pragma GCC unroll 2
      for (int g = 0; g < 2; ++g) {
        __m512 x = _mm512_fmadd_ps(_mm512_load_ps(logits + r * kPairKeys + g * kGroup), scale, bias[g]);
        if (kOffset) x = _mm512_sub_ps(x, _mm512_set1_ps(offsets[r]));
        weights[g] = FastExp2(x);
        if (kCut) {
          const int key = at + g * kGroup;
          const __m512i row = _mm512_set1_epi32(first_row + r);
          const __mmask16 begun = _mm512_cmple_epi32_mask(_mm512_loadu_si512(chunk.first + key), row);
          weights[g] = _mm512_maskz_mov_ps(
              _mm512_mask_cmpgt_epi32_mask(begun, _mm512_loadu_si512(chunk.end + key), row), weights[g]);
        }
      }
      row_sums[r] = row_sums[r] + reinterpret_cast<FloatVector>(_mm512_add_ps(weights[0], weights[1]));
      const __m512bh shorts = _mm512_cvtne2ps_pbh(weights[1], weights[0]);
      __builtin_memcpy(to + r * 16, &shorts, sizeof(shorts));
    }
  }

  template <bool kOffset>
  void WeighPairs(const AttentionArguments& arguments, const KeyChunk& chunk, int first_row, const float* offsets,
                  Prefetch& prefetch) {
    const int key_cells = KeyCells<kCell>(arguments.head_dim);
    const __m512 scale = _mm512_set1_ps(arguments.scale * kLog2E);
    for (FloatVector& sum : row_sums) sum = FloatVector{};
    prefetch.Spread(num_pairs);
    for (int start = 0; start < num_pairs; start += kPhasePairs) {
      const int end = Least(start + kPhasePairs, num_pairs);
      for (int p = start; p < end; ++p) {
        if (row_tiles == 1) {
          Multiply<1>(chunk, pairs[p], key_cells, logits_of[p - start]);
        } else {
          Multiply<2>(chunk, pairs[p], key_cells, logits_of[p - start]);
        }
      }
      for (int p = start; p < end; ++p) {
        prefetch.Step();
        if (cut[p]) {
          Weigh<kOffset, true>(chunk, pairs[p], first_row, scale, offsets, logits_of[p - start], weights_of[p]);
        } else {
          Weigh<kOffset, false>(chunk, pairs[p], first_row, scale, offsets, logits_of[p - start], weights_of[p]);
        }
      }
    }
  }

  // out: (rows, ValueCells) += weights x values, for kBlocks blocks of 16 channels from `c` on.
  template <int kRowTiles, int kBlocks>
  EARSHOT_INLINE void AddValues(const KeyChunk& chunk, int value_cells, int c, bool fresh, float* out) {
    float* to = out + c;
    float* second = to + static_cast<std::ptrdiff_t>(kTileRows) * value_cells;
    TileZero<0>();
    TileZero<1>();
    TileZero<2>();
    TileZero<3>();
    if (!fresh) {
      TileLoad<0>(to, value_cells);
      if (kBlocks == 2) TileLoad<1>(to + 16, value_cells);
      if (kRowTiles == 2) TileLoad<2>(second, value_cells);
      if (kRowTiles == 2 && kBlocks == 2) TileLoad<3>(second + 16, value_cells);
    }
    for (int p = 0; p < num_pairs; ++p) {
      const float* values = chunk.values + static_cast<std::ptrdiff_t>(pairs[p]) * (kGroup / 2) * value_cells + c;
      TileLoad<4>(weights_of[p], 16);
      TileLoad<6>(values, value_cells);
      TileMultiplyAdd<0, 4, 6>();
      if (kBlocks == 2) {
        TileLoad<7>(values + 16, value_cells);
        TileMultiplyAdd<1, 4, 7>();
      }
      if (kRowTiles == 1) continue;
      TileLoad<5>(weights_of[p] + kTileCells, 16);
      TileMultiplyAdd<2, 5, 6>();
      if (kBlocks == 2) TileMultiplyAdd<3, 5, 7>();
    }
    TileStore<0>(to, value_cells);
    if (kBlocks == 2) TileStore<1>(to + 16, value_cells);
    if (kRowTiles == 2) TileStore<2>(second, value_cells);
    if (kRowTiles == 2 && kBlocks == 2) TileStore<3>(second + 16, value_cells);
  }
  template <int kRowTiles>
  void AddAllValues(const KeyChunk& chunk, int value_cells, const TileSums& sums) {
    int c = 0;
    for (; c + 32 <= value_cells; c += 32) AddValues<kRowTiles, 2>(chunk, value_cells, c, sums.fresh, sums.out);
    if (c < value_cells) AddValues<kRowTiles, 1>(chunk, value_cells, c, sums.fresh, sums.out);
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
    WeighPairs<kOffset>(arguments, chunk, tile.first_row, sums.offsets, prefetch);
    for (int t = 0; t < row_tiles; ++t) {
      FloatVector rows[kTileRows];
      for (int r = 0; r < kTileRows; ++r) rows[r] = row_sums[t * kTileRows + r];
      float* to = sums.sums + t * kTileRows;
      Store(Load(to) + SumRows(rows), to);
    }
    if (row_tiles == 1) {
      AddAllValues<1>(chunk, ValueCells(arguments.head_dim), sums);
    } else {
      AddAllValues<2>(chunk, ValueCells(arguments.head_dim), sums);
    }
  }

  __attribute__((noinline)) void Search(const AttentionArguments& arguments, const KeyChunk& chunk,
                                        const VisibleGroups& visible, const Tile& tile, const TileSums& sums) {
    const __m512 scale = _mm512_set1_ps(arguments.scale * kLog2E);
    const int key_cells = KeyCells<kCell>(arguments.head_dim);
    for (int r = 0; r < row_tiles * kTileRows; ++r) row_sums[r] = Broadcast(sums.offsets[r]);
    FindPairs(visible);
    for (int p = 0; p < num_pairs; ++p) {
      if (row_tiles == 1) {
        Multiply<1>(chunk, pairs[p], key_cells, logits_of[0]);
      } else {
        Multiply<2>(chunk, pairs[p], key_cells, logits_of[0]);
      }
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

  const float* query_rows;  // where they are, if whole tiles of them are there, else `copies`
  int64_t query_step;       // bytes
  alignas(64) float copies[kRows * kRowStep];
  alignas(64) float logits_of[kPhasePairs][kRows * kPairKeys];
  alignas(64) float weights_of[kMaxPairs][kRows * kPairKeys / 2];
  alignas(64) FloatVector row_sums[kRows];  // in the search, the largest so far
  int row_tiles;                            // of 16 queries: 2, or 1 at the end of a unit
  int num_pairs;
  int16_t pairs[kMaxPairs];  // the first group of each
  bool cut[kMaxPairs];
};

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
