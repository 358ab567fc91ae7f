// The forward pass with vectors: 16 queries at a time against pairs of groups of keys, with fused multiply-adds or with
// products of pairs of bf16. See attention_kernel_lanes.h for who includes this.
#pragma once

#include "src/attention/attention_kernel_forward.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

// Logits go through memory, and the exponentials of a pair of groups stand between the products of the next one: behind
// their own products they would wait for the last of these, and then each for the one before.
template <Cell kCellOf>
struct VectorEngine {
  static constexpr Cell kCell = kCellOf;
  static constexpr int kRows = 16;
  static constexpr int kEmptyGroups = 0;
  static constexpr int kStripGroups = 20;
  static constexpr int kPair = kValuesInCell<kCell>;
  static constexpr int kStripStep = kStripGroups * kGroup + 16;  // cells
  // Steps of a product between two rows of exponentials. Fewer than 32 registers have no room for both.
  static constexpr bool kInterleaves = kLanes == 16;
  static constexpr int kStepsBetween = 4;

  __attribute__((noinline)) void LoadQueries(const AttentionArguments& arguments, const KeyUnitView& unit,
                                             const Tile& tile) {
    const int d = arguments.head_dim, cells = KeyCells<kCell>(d);
    rows = RoundUp(tile.end_row - tile.first_row, kMicroRows);
    for (int r = 0; r < rows; ++r) {
      const int64_t frame = unit.first_query + tile.first_row + r;
      if (tile.first_row + r < tile.end_row) {
        LoadRow<kCell>(arguments.type, HeadRow(arguments.q, arguments.type, frame, tile.head), d, cells,
                       queries + r * kRowStep);
      } else {
        ZeroRow(cells, queries + r * kRowStep);
      }
    }
  }

  // What is known of groups whose products are there.
  template <int kGroups>
  struct Weighing {
    static constexpr int kVectors = kGroups * kVectorsOfGroup;
    Weighing(const AttentionArguments& arguments, const KeyChunk& chunk, const int16_t* groups, int begin,
             const float* from)
        : vectors(groups), scale(Broadcast(arguments.scale * kLog2E)), products(from), at(begin) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        bias[v] = Load(chunk.bias + vectors.Key(v));
        first[v] = chunk.first + vectors.Key(v);
        end[v] = chunk.end + vectors.Key(v);
      }
    }
    // Products of a row of the tile -> logits, times log2(e).
    EARSHOT_INLINE void ToLogits(FloatVector (&row)[kVectors]) const {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) row[v] = row[v] * scale + bias[v];
    }
    EARSHOT_INLINE void LoadProducts(int r, FloatVector (&row)[kVectors]) const {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) row[v] = Load(products + (r * kVectors + v) * kLanes);
    }

    GroupVectors<kGroups> vectors;
    FloatVector scale, bias[kVectors];
    const int32_t *first[kVectors], *end[kVectors];
    const float* products;  // (kRows, kVectors, kLanes)
    int at;                 // of the strip, keys
  };

  // The products of the tile and of groups: finish(r, row), a vector for each of the groups'; between() after every few
  // steps.
  template <int kGroups, class Between, class Finish>
  EARSHOT_INLINE void Multiply(const AttentionArguments& arguments, const KeyChunk& chunk, const int16_t* groups,
                               Between between, Finish finish) {
    constexpr int kVectors = GroupVectors<kGroups>::kCount;
    const int d = arguments.head_dim, steps = (d + kPair - 1) / kPair;
    const float* keys[kVectors];
    GroupVectors<kGroups>(groups).Find(chunk.keys, KeyCells<kCell>(d), keys);
    for (int r = 0; r < rows; r += kMicroRows) {
      FloatVector sums[kMicroRows][kVectors] = {};
      const float* row = queries + r * kRowStep;
      int u = 0;
      if constexpr (kInterleaves && kVectors == 1) {
        FloatVector of_two[2][kMicroRows][1] = {};
        for (; u + kStepsBetween <= steps; u += kStepsBetween) {
#pragma GCC unroll 2
          for (int i = u; i < u + kStepsBetween; i += 2)
            AddOuterTwice<kCell>(of_two, row + i, kRowStep, keys[0] + i * kGroup, kGroup);
          between();
        }
#pragma GCC unroll 8
        for (int i = 0; i < kMicroRows; ++i) sums[i][0] = of_two[0][i][0] + of_two[1][i][0];
      } else if (kInterleaves) {
        for (; u + kStepsBetween <= steps; u += kStepsBetween) {
#pragma GCC unroll 4
          for (int i = u; i < u + kStepsBetween; ++i) AddOuter<kCell>(sums, row + i, kRowStep, keys, i * kGroup);
          between();
        }
      }
#pragma GCC unroll 1
      for (; u < steps; ++u) AddOuter<kCell>(sums, row + u, kRowStep, keys, u * kGroup);
#pragma GCC unroll 8
      for (int i = 0; i < kMicroRows; ++i) finish(r + i, sums[i]);
    }
  }
  template <int kVectors>
  static EARSHOT_INLINE void StoreRow(const FloatVector (&row)[kVectors], float* to) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Store(row[v], to + v * kLanes);
  }

  // Weights of row r of the tile -> strip. weights: the products.
  template <bool kOffset, bool kCut, int kGroups, int kVectors>
  EARSHOT_INLINE void WeighProducts(const Weighing<kGroups>& of, const Tile& tile, const float* offsets, int r,
                                    FloatVector (&weights)[kVectors]) {
    of.ToLogits(weights);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if (kOffset) weights[v] = weights[v] - offsets[r];
      weights[v] = Exp2<kCell == Cell::kFloat>(weights[v]);
      if (kCut) weights[v] = KeepWhere(Visible(of.first[v], of.end[v], tile.first_row + r), weights[v]);
    }
    FloatVector sum = weights[0];
#pragma GCC unroll 4
    for (int v = 1; v < kVectors; ++v) sum = sum + weights[v];
    row_sums[r] = row_sums[r] + sum;
    StoreWeights(weights, strip + r * kStripStep, of.at);
  }

  template <bool kOffset, bool kCut, int kGroups>
  EARSHOT_INLINE void WeighRow(const Weighing<kGroups>& of, const Tile& tile, const float* offsets, int r) {
    FloatVector row[Weighing<kGroups>::kVectors];
    of.LoadProducts(r, row);
    WeighProducts<kOffset, kCut>(of, tile, offsets, r, row);
  }

  template <int kVectors>
  static EARSHOT_INLINE void StoreWeights(const FloatVector (&weights)[kVectors], float* row, int key) {
#if defined(__AVX512BF16__)
    if (kCell == Cell::kShorts) {
      auto* to = reinterpret_cast<uint16_t*>(row) + key;
      int v = 0;
#pragma GCC unroll 2
      for (; v + 2 <= kVectors; v += 2) {
        const __m512bh shorts =
            _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(weights[v + 1]), reinterpret_cast<__m512>(weights[v]));
        __builtin_memcpy(to + v * kLanes, &shorts, sizeof(shorts));
      }
      if (v < kVectors) StoreShorts(weights[v], to + v * kLanes);
      return;
    }
#endif
    StoreRow(weights, row + key);
  }

  template <bool kOffset, bool kCut, int kGroups>
  EARSHOT_INLINE void WeighAll(const Weighing<kGroups>& of, const Tile& tile, const float* offsets) {
    for (int r = 0; r < rows; ++r) WeighRow<kOffset, kCut>(of, tile, offsets, r);
  }

  // Weights of the tile and of `count` groups -> strip.
  template <bool kOffset>
  EARSHOT_INLINE void WeighAtOnce(const AttentionArguments& arguments, const KeyChunk& chunk, const int16_t* groups,
                                  const bool* cut, int count, const Tile& tile, const float* offsets,
                                  Prefetch& prefetch) {
    constexpr int kVectors = GroupVectors<1>::kCount;
    for (int i = 0; i < count; ++i) {
      prefetch.Step();
      const Weighing<1> of(arguments, chunk, groups + i, i * kGroup, nullptr);
      const auto multiply = [&]<bool kCut>() {
        Multiply<1>(
            arguments, chunk, groups + i, [] {},
            [&](int r, FloatVector(&row)[kVectors]) { WeighProducts<kOffset, kCut>(of, tile, offsets, r, row); });
      };
      if (cut[i]) {
        multiply.template operator()<true>();
      } else {
        multiply.template operator()<false>();
      }
    }
  }
  // The same with the exponentials between the products.
  template <bool kOffset>
  EARSHOT_INLINE void WeighBetween(const AttentionArguments& arguments, const KeyChunk& chunk, const int16_t* groups,
                                   const bool* cut, int count, const Tile& tile, const float* offsets,
                                   Prefetch& prefetch) {
    // Of all blocks but the last.
    using Full = Weighing<kGroupsAtOnce>;
    const auto multiply = [&]<int kGroups>(Together<kGroups>, int i, auto between) {
      constexpr int kVectors = GroupVectors<kGroups>::kCount;
      float* to = products[i / kGroupsAtOnce % 2];
      Multiply<kGroups>(arguments, chunk, groups + i, between,
                        [&](int r, const FloatVector(&row)[kVectors]) { StoreRow(row, to + r * kVectors * kLanes); });
    };
    const auto weighing = [&]<int kGroups>(Together<kGroups>, int i) {
      return Weighing<kGroups>(arguments, chunk, groups + i, i * kGroup, products[i / kGroupsAtOnce % 2]);
    };
    const auto multiply_and_weigh = [&]<bool kCut>(auto together, int i) {
      const Full of = weighing(Together<kGroupsAtOnce>(), i - kGroupsAtOnce);
      int r = 0;
      multiply(together, i, [&] {
        if (r < rows) WeighRow<kOffset, kCut>(of, tile, offsets, r++);
      });
      for (; r < rows; ++r) WeighRow<kOffset, kCut>(of, tile, offsets, r);
    };
    bool cut_before = false;
    ForGroupsTogether(cut, count, [&]<int kGroups>(Together<kGroups> together, int i, bool any_cut) {
      prefetch.Step();
      if (i == 0) {
        multiply(together, i, [] {});
      } else if (cut_before) {
        multiply_and_weigh.template operator()<true>(together, i);
      } else {
        multiply_and_weigh.template operator()<false>(together, i);
      }
      cut_before = any_cut;
      if (i + kGroups < count) return;
      if (any_cut) {
        WeighAll<kOffset, true>(weighing(together, i), tile, offsets);
      } else {
        WeighAll<kOffset, false>(weighing(together, i), tile, offsets);
      }
    });
  }

  template <int kVectors>
  EARSHOT_INLINE void AddValueColumns(const KeyChunk& chunk, const int16_t* groups, int count, int value_cells, int c,
                                      bool fresh, float* out) {
    constexpr int kSteps = kGroup / kPair;
    for (int r = 0; r < rows; r += kMicroRows) {
      FloatVector sums[kMicroRows][kVectors] = {};
      if (!fresh) LoadSums(out + r * value_cells + c, value_cells, sums);
#pragma GCC unroll 1
      for (int i = 0; i < count; ++i) {
        AddProduct<kCell>(sums, strip + r * kStripStep + i * kSteps, kStripStep, 1,
                          chunk.values + groups[i] * kSteps * value_cells + c, value_cells, kSteps);
      }
      StoreSums(sums, out + r * value_cells + c, value_cells);
    }
  }

  template <bool kOffset>
  __attribute__((noinline)) void Accumulate(const AttentionArguments& arguments, const KeyChunk& chunk,
                                            const VisibleGroups& visible, const Tile& tile, const TileSums& sums,
                                            Prefetch& prefetch) {
    const int value_cells = ValueCells(arguments.head_dim);
    prefetch.Spread((visible.count + kGroupsAtOnce - 1) / kGroupsAtOnce);
    for (FloatVector& sum : row_sums) sum = FloatVector{};
    for (int start = 0; start < visible.count; start += kStripGroups) {
      const int count = Least(kStripGroups, visible.count - start);
      const int16_t* groups = visible.group + start;
      if constexpr (kInterleaves) {
        WeighBetween<kOffset>(arguments, chunk, groups, visible.cut + start, count, tile, sums.offsets, prefetch);
      } else {
        WeighAtOnce<kOffset>(arguments, chunk, groups, visible.cut + start, count, tile, sums.offsets, prefetch);
      }
      int c = 0;
      for (; c + kValueVectors * kLanes <= value_cells; c += kValueVectors * kLanes)
        AddValueColumns<kValueVectors>(chunk, groups, count, value_cells, c, sums.fresh && start == 0, sums.out);
      if (kValueVectors * kLanes > kGroup && c < value_cells)
        AddValueColumns<kVectorsOfGroup>(chunk, groups, count, value_cells, c, sums.fresh && start == 0, sums.out);
    }
    for (int r = 0; r < rows; ++r) sums.sums[r] += Sum(row_sums[r]);
  }

  // Raises the offsets to the largest logit of the chunk.
  __attribute__((noinline)) void Search(const AttentionArguments& arguments, const KeyChunk& chunk,
                                        const VisibleGroups& visible, const Tile& tile, const TileSums& sums) {
    for (int r = 0; r < rows; ++r) row_sums[r] = Broadcast(sums.offsets[r]);
    for (int j = 0; j < visible.count; ++j) {
      const Weighing<1> of(arguments, chunk, visible.group + j, 0, nullptr);
      Multiply<1>(
          arguments, chunk, visible.group + j, [] {},
          [&](int r, FloatVector(&row)[kVectorsOfGroup]) {
            of.ToLogits(row);
#pragma GCC unroll 4
            for (int v = 0; v < kVectorsOfGroup; ++v) {
              const IntVector seen = Visible(of.first[v], of.end[v], tile.first_row + r);
              row_sums[r] = Max(row_sums[r], seen ? row[v] : Broadcast(-kInfinity));
            }
          });
    }
    for (int r = 0; r < rows; ++r) sums.offsets[r] = Largest(row_sums[r]);
  }

  int rows;  // of the tile, whole kMicroRows
  alignas(64) float queries[kRows * kRowStep];
  alignas(64) float products[2][kRows * kGroupsAtOnce * kGroup];
  alignas(64) float strip[kRows * kStripStep];
  alignas(64) FloatVector row_sums[kRows];  // in the search, the largest so far
};

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
