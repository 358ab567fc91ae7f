// The one product of small matrices that the vector kernels are made of; see attention_kernel_lanes.h for who includes
// this.
#pragma once

#include "src/attention/attention_kernel_pack.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

// Rows and vectors of sums that stay in registers, and groups of keys whose logits are computed at a time: twice 8
// sums of AVX-512, whose 32 registers hold them and hide the latency of two units.
constexpr int kMicroRows = kLanes / 2;
constexpr int kVectorsOfGroup = kGroup / kLanes;
constexpr int kGroupsAtOnce = kLanes == 16 ? 2 : 1;
constexpr int kValueVectors = kLanes == 4 ? 4 : 2;

// sum + a b, of each pair of bf16 both products.
template <Cell kCell>
EARSHOT_INLINE FloatVector MultiplyAdd(FloatVector sum, float a, FloatVector b) {
#if defined(__AVX512BF16__)
  if (kCell == Cell::kShorts)
    return reinterpret_cast<FloatVector>(_mm512_dpbf16_ps(
        reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(Broadcast(a)), reinterpret_cast<__m512bh>(b)));
#endif
  return sum + Broadcast(a) * b;
}

// sums[r][v] += a[r a_row] b[v][at], in cells.
template <Cell kCell, int kRows, int kVectors>
EARSHOT_INLINE void AddOuter(FloatVector (&sums)[kRows][kVectors], const float* a, std::ptrdiff_t a_row,
                             const float* const (&b)[kVectors], std::ptrdiff_t at) {
  FloatVector row[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) row[v] = Load(b[v] + at);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = MultiplyAdd<kCell>(sums[r][v], a[r * a_row], row[v]);
  }
}

// The same where there is but one vector: its sums, fewer than hide the latency of their additions, are two each.
template <Cell kCell, int kRows>
EARSHOT_INLINE void AddOuterTwice(FloatVector (&sums)[2][kRows][1], const float* a, std::ptrdiff_t a_row,
                                  const float* b, std::ptrdiff_t b_step) {
  const float* const first[1] = {b};
  AddOuter<kCell>(sums[0], a, a_row, first, 0);
  AddOuter<kCell>(sums[1], a + 1, a_row, first, b_step);
}

// sums[r][v] += sum over u < steps of a[r a_row + u a_step] b[v][u b_step].
template <Cell kCell, int kRows, int kVectors>
EARSHOT_INLINE void AddProduct(FloatVector (&sums)[kRows][kVectors], const float* a, std::ptrdiff_t a_row,
                               std::ptrdiff_t a_step, const float* const (&b)[kVectors], std::ptrdiff_t b_step,
                               int steps) {
#pragma GCC unroll 1
  for (int u = 0; u < steps; ++u) AddOuter<kCell>(sums, a + u * a_step, a_row, b, u * b_step);
}

// The vectors of b one behind the other, or b_jump cells apart.
template <Cell kCell, int kRows, int kVectors>
EARSHOT_INLINE void AddProduct(FloatVector (&sums)[kRows][kVectors], const float* a, std::ptrdiff_t a_row,
                               std::ptrdiff_t a_step, const float* b, std::ptrdiff_t b_step, int steps,
                               std::ptrdiff_t b_jump = kLanes) {
  const float* of_vector[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) of_vector[v] = b + v * b_jump;
  AddProduct<kCell>(sums, a, a_row, a_step, of_vector, b_step, steps);
}

// Groups that are computed together, wherever they lie: where each vector of their keys begins.
template <int kGroups>
struct GroupVectors {
  static constexpr int kCount = kGroups * kVectorsOfGroup;
  EARSHOT_INLINE explicit GroupVectors(const int16_t* groups) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) first_key[g] = groups[g] * kGroup;
  }
  static constexpr int Within(int vector) { return vector % kVectorsOfGroup * kLanes; }
  EARSHOT_INLINE int Key(int vector) const { return first_key[vector / kVectorsOfGroup] + Within(vector); }
  // Of the packed keys, `cells` rows of 16 for a group.
  EARSHOT_INLINE void Find(const float* packed, int cells, const float* (&of_vector)[kCount]) const {
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v)
      of_vector[v] = packed + static_cast<std::ptrdiff_t>(first_key[v / kVectorsOfGroup]) * cells + Within(v);
  }
  int first_key[kGroups];
};

// Calls use(Together<n>, i, cut) for each n groups to compute together, from i on.
template <int kGroups>
struct Together {};
template <class Use>
EARSHOT_INLINE void ForGroupsTogether(const bool* cut, int count, Use use) {
  int i = 0;
  if (kGroupsAtOnce == 2)
    for (; i + 2 <= count; i += 2) use(Together<kGroupsAtOnce>(), i, cut[i] || cut[i + 1]);
  for (; i < count; ++i) use(Together<1>(), i, cut[i]);
}

// Vectors of a row, or tiles of columns, are vector_step cells apart.
template <int kRows, int kVectors>
EARSHOT_INLINE void LoadSums(const float* from, std::ptrdiff_t row_step, FloatVector (&sums)[kRows][kVectors],
                             std::ptrdiff_t vector_step = kLanes) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Load(from + r * row_step + v * vector_step);
  }
}

template <int kRows, int kVectors>
EARSHOT_INLINE void StoreSums(const FloatVector (&sums)[kRows][kVectors], float* to, std::ptrdiff_t row_step,
                              std::ptrdiff_t vector_step = kLanes) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Store(sums[r][v], to + r * row_step + v * vector_step);
  }
}

// All bits where query r sees the key, none elsewhere.
EARSHOT_INLINE IntVector Visible(const int32_t* first, const int32_t* end, int r) {
  return (Load(first) <= r) & (Load(end) > r);
}

EARSHOT_INLINE FloatVector KeepWhere(IntVector mask, FloatVector x) {
  return reinterpret_cast<FloatVector>(reinterpret_cast<IntVector>(x) & mask);
}

// The groups of a chunk that a tile sees.
struct VisibleGroups {
  int count = 0;
  int16_t group[kMaxChunkGroups + 1];
  bool cut[kMaxChunkGroups + 1];  // some of its keys are hidden from some of the rows
};

// Of rows [first_row, end_row).
EARSHOT_INLINE void FindVisible(const GroupRanges& ranges, int num_groups, int first_row, int end_row,
                                VisibleGroups& visible) {
  int count = 0;
#if defined(__AVX512F__)
  const __m512i first = _mm512_set1_epi32(first_row), end = _mm512_set1_epi32(end_row);
  const auto load = [](const int32_t* p) { return _mm512_loadu_si512(p); };
  for (int g = 0; g < num_groups; g += 16) {
    const __mmask16 real = static_cast<__mmask16>(num_groups - g < 16 ? (1 << (num_groups - g)) - 1 : 0xffff);
    unsigned seen = _mm512_mask_cmpgt_epi32_mask(_mm512_mask_cmplt_epi32_mask(real, load(ranges.hull_first + g), end),
                                                 load(ranges.hull_end + g), first);
    const unsigned whole = _mm512_mask_cmple_epi32_mask(_mm512_cmpge_epi32_mask(load(ranges.core_end + g), end),
                                                        load(ranges.core_first + g), first);
    for (; seen != 0; seen &= seen - 1) {
      const int i = __builtin_ctz(seen);
      visible.group[count] = static_cast<int16_t>(g + i);
      visible.cut[count++] = (whole >> i & 1) == 0;
    }
  }
#else
  for (int g = 0; g < num_groups; ++g) {
    visible.group[count] = static_cast<int16_t>(g);
    visible.cut[count] = ranges.core_first[g] > first_row || ranges.core_end[g] < end_row;
    count += static_cast<int>(ranges.hull_first[g] < end_row) & static_cast<int>(ranges.hull_end[g] > first_row);
  }
#endif
  visible.count = count;
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
