// Keys and values as the kernels want them, in groups of 16; see attention_kernel_lanes.h for who includes this.
//
// All is counted in cells of 32 bits: a float, or two bf16 that instructions multiply and add as a pair. With P the
// values of a cell, a group of keys is (d / P, 16) cells, its values (16 / P, d) cells:
//
//   float   keys[c][k] = k_k[c]                     values[k][c] = v_k[c]
//   bf16    keys[c][k] = (k_k[2 c], k_k[2 c + 1])   values[k][c] = (v_2k[c], v_2k+1[c])
//
// which is what tiles want too. Floats that tiles multiply are split into three bf16 (see Cell), whose rows stand one
// after the other in place of one. Channels are padded with zeros to a multiple of 16 cells, lists of keys to whole
// groups with rows of zeros that no query sees.
#pragma once

#include "src/attention/attention_kernel_lanes.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

constexpr int kGroup = 16;
constexpr int kMaxChunkGroups = 64;
// Cells from one row of a small matrix to the next: room for any head, and no power of two, which would crowd a few
// sets of the cache.
constexpr int kRowStep = kMaxHeadDim + 16;

// Where the queries that see each group are: no other than [hull_first, hull_end) sees any of its keys, each of
// [core_first, core_end) sees all of them.
struct GroupRanges {
  static constexpr int kSize = kMaxChunkGroups + 16;
  int32_t hull_first[kSize], hull_end[kSize], core_first[kSize], core_end[kSize];
};

// What a source row is turned into. kSplit: of floats, three rows of bf16 with 8 of the 24 bits of each significand,
// which add up to it; six products of them, those of no less than 2^-16 of the whole, make one of floats.
enum class Cell { kFloat, kShorts, kSplit };
template <Cell kCell>
constexpr int kParts = kCell == Cell::kSplit ? 3 : 1;
template <Cell kCell>
constexpr int kValuesInCell = kCell == Cell::kFloat ? 1 : 2;
// As kRowStep, for rows of any kind.
template <Cell kCell>
constexpr int kCopyStep = kCell == Cell::kSplit ? kParts<kCell>* kMaxHeadDim / 2 + 16 : kRowStep;

// What the upper half of x leaves of it: x - r is that half, and a bf16.
EARSHOT_INLINE FloatVector BelowUpperHalf(FloatVector x) {
  return x - reinterpret_cast<FloatVector>(reinterpret_cast<UnsignedVector>(x) & 0xffff0000u);
}
#if defined(__AVX512BF16__)
// The upper halves of a and of b -> 32 bf16.
EARSHOT_INLINE __m512i UpperHalves(__m512 a, __m512 b) {
  alignas(64) static constexpr uint16_t kOdd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                    33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(_mm512_castps_si512(a), _mm512_load_si512(kOdd), _mm512_castps_si512(b));
}
#endif

EARSHOT_INLINE const char* HeadRow(const ConstHeadsView& view, KernelType type, int64_t frame, int head) {
  const int64_t size = type == KernelType::kFloat ? 4 : 2;
  return static_cast<const char*>(view.data) + (frame * view.frame_stride + head * view.head_stride) * size;
}

EARSHOT_INLINE void FetchRow(const char* row, int d, KernelType type) {
  const int bytes = d * (type == KernelType::kFloat ? 4 : 2);
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
}

// Rows of a head lie a frame of all heads apart, which no prefetcher of hardware follows. What a tile will need is
// asked for bit by bit while the one before is computed, so that the few line buffers of a core never fill up.
class Prefetch {
 public:
  void Clear() { num_streams_ = at_ = 0; }
  // `count` rows of `bytes` bytes, those of `entries`, or consecutive ones from row 0.
  void Add(const char* rows, int64_t row_bytes, const KeyEntry* entries, int count, int bytes) {
    for (int i = 0; i < bytes && num_streams_ < kMaxStreams; i += 64)
      streams_[num_streams_++] = {rows + i, row_bytes, entries, count};
  }
  // To be called `steps` times.
  void Spread(int steps) { streams_of_step_ = steps == 0 ? 0 : (num_streams_ + steps - 1) / steps; }
  EARSHOT_INLINE void Step() {
    for (int i = 0; i < streams_of_step_ && at_ < num_streams_; ++i, ++at_) {
      const Stream& stream = streams_[at_];
      for (int r = 0; r < stream.count; ++r) {
        const int64_t row = stream.entries == nullptr ? r : stream.entries[r].row;
        __builtin_prefetch(stream.rows + row * stream.row_bytes);
      }
    }
  }

 private:
  static constexpr int kMaxStreams = 128;
  struct Stream {
    const char* rows;
    int64_t row_bytes;
    const KeyEntry* entries;
    int count;
  };
  Stream streams_[kMaxStreams];
  int num_streams_ = 0, at_ = 0, streams_of_step_ = 0;
};

// d values of a row -> cells, zeros up to `padded` cells (of split rows, a multiple of 16 for each part). No byte
// behind the row is read.
template <Cell kCell>
EARSHOT_INLINE void LoadRow(KernelType type, const char* row, int d, int padded, float* cells) {
  int i = 0;
#if defined(__AVX512BF16__)
  if (kCell == Cell::kSplit) {
    const int part = padded / kParts<kCell>;
    const auto* from = reinterpret_cast<const float*>(row);
    const auto load = [&](int first) {
      const int count = Most(0, Least(kLanes, d - first));
      return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), from + first);
    };
    for (; i < part; i += kLanes) {
      __m512 low = load(2 * i), high = load(2 * i + kLanes);
      for (int p = 0; p < kParts<kCell>; ++p, low = BelowUpperHalf(low), high = BelowUpperHalf(high))
        _mm512_storeu_si512(cells + p * part + i, UpperHalves(low, high));
    }
    return;
  }
#endif
  if (kCell == Cell::kShorts) {
    auto* shorts = reinterpret_cast<uint16_t*>(cells);
    for (; i + 2 * kLanes <= d; i += 2 * kLanes)
      __builtin_memcpy(shorts + i, row + 2 * static_cast<std::ptrdiff_t>(i), 4 * kLanes);
    for (; i < d; ++i) __builtin_memcpy(shorts + i, row + 2 * static_cast<std::ptrdiff_t>(i), 2);
    for (; i < 2 * padded; ++i) shorts[i] = 0;
    return;
  }
  if (type == KernelType::kFloat) {
    const auto* from = reinterpret_cast<const float*>(row);
    for (; i + kLanes <= d; i += kLanes) Store(Load(from + i), cells + i);
    for (; i < d; ++i) cells[i] = from[i];
  } else {
    const auto* from = reinterpret_cast<const uint16_t*>(row);
    for (; i + kLanes <= d; i += kLanes) Store(LoadShorts(from + i), cells + i);
    for (; i < d; ++i) cells[i] = FromShort(from[i]);
  }
  for (; i < padded; ++i) cells[i] = 0;
}

EARSHOT_INLINE void ZeroRow(int padded, float* cells) { __builtin_memset(cells, 0, sizeof(float) * padded); }

// `cells` is a multiple of 16.
EARSHOT_INLINE void CopyRow(const float* from, int cells, float* to) {
  for (int i = 0; i < cells; i += kLanes) Store(Load(from + i), to + i);
}

// d values times a factor -> a row of a matrix, from `element` on.
// NOLINTBEGIN(clang-analyzer-core.UndefinedBinaryOperatorResult): rows are filled in blocks, further than it follows.
EARSHOT_INLINE void WriteRow(const float* row, float factor, int d, KernelType type, void* data, int64_t element) {
  const FloatVector factors = Broadcast(factor);
  int i = 0;
  if (type == KernelType::kFloat) {
    float* to = static_cast<float*>(data) + element;
    for (; i + kLanes <= d; i += kLanes) Store(Load(row + i) * factors, to + i);
    for (; i < d; ++i) to[i] = row[i] * factor;
  } else {
    uint16_t* to = static_cast<uint16_t*>(data) + element;
#if defined(__AVX512BF16__)
    for (; i + 2 * kLanes <= d; i += 2 * kLanes) {
      const auto low = reinterpret_cast<__m512>(Load(row + i) * factors);
      const auto high = reinterpret_cast<__m512>(Load(row + i + kLanes) * factors);
      const __m512bh shorts = _mm512_cvtne2ps_pbh(high, low);
      __builtin_memcpy(to + i, &shorts, sizeof(shorts));
    }
#endif
    for (; i + kLanes <= d; i += kLanes) StoreShorts(Load(row + i) * factors, to + i);
    for (; i < d; ++i) to[i] = ToShort(row[i] * factor);
  }
}
// NOLINTEND(clang-analyzer-core.UndefinedBinaryOperatorResult)

// 16 rows of `cells` cells -> (cells, 16); rows hold zeros up to a multiple of 16 cells.
EARSHOT_INLINE void TransposeGroup(const float* const* rows, int cells, float* out) {
  for (int c = 0; c < cells; c += kLanes) {
    for (int r = 0; r < kGroup; r += kLanes) {
      FloatVector block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = Load(rows[r + i] + c);
      Transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) Store(block[i], out + (c + i) * kGroup + r);
    }
  }
}

// Two rows of bf16, `cells` values of each -> cells (a[c], b[c]).
EARSHOT_INLINE void InterleaveRows(const float* row_a, const float* row_b, int cells, float* out) {
  const auto* a = reinterpret_cast<const uint16_t*>(row_a);
  const auto* b = reinterpret_cast<const uint16_t*>(row_b);
  for (int c = 0; c < cells; c += kLanes) {
#if defined(__AVX512F__)
    const auto widen = [](const uint16_t* from) {
      __m256i shorts;
      __builtin_memcpy(&shorts, from, sizeof(shorts));
      return reinterpret_cast<UnsignedVector>(_mm512_maskz_cvtepu16_epi32(0xffff, shorts));
    };
    const UnsignedVector pairs = widen(a + c) | widen(b + c) << 16;
#else
    const auto widen = [](const uint16_t* from) {
      return __builtin_convertvector(*reinterpret_cast<const UnalignedShorts*>(from), UnsignedVector);
    };
    const UnsignedVector pairs = widen(a + c) | widen(b + c) << 16;
#endif
    Store(reinterpret_cast<FloatVector>(pairs), out + c);
  }
}

#if defined(__AVX512BF16__)
// What is left of x without the parts before kPart; the upper half is the part.
template <int kPart>
EARSHOT_INLINE __m512 FromPart(const float* x) {
  FloatVector left = Load(x);
#pragma GCC unroll 2
  for (int p = 0; p < kPart; ++p) left = BelowUpperHalf(left);
  return reinterpret_cast<__m512>(left);
}

// One part of 16 rows of 2 x `cells` floats -> (cells, 16). Row by row into a buffer and from there would be slower by
// far: loads wait for stores to the same place in another page.
template <int kPart>
EARSHOT_INLINE void TransposePart(const float* const* rows, int cells, float* out) {
  for (int c = 0; c < cells; c += kLanes) {
    FloatVector block[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      block[i] = reinterpret_cast<FloatVector>(
          UpperHalves(FromPart<kPart>(rows[i] + 2 * c), FromPart<kPart>(rows[i] + 2 * c + kLanes)));
    }
    Transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) Store(block[i], out + (c + i) * kGroup);
  }
}

// All parts, one behind the other.
EARSHOT_INLINE void TransposeParts(const float* const* rows, int cells, float* out) {
  TransposePart<0>(rows, cells, out);
  TransposePart<1>(rows, cells, out + cells * kGroup);
  TransposePart<2>(rows, cells, out + 2 * cells * kGroup);
}

// Two rows of floats -> of each part, cells (a[c], b[c]).
EARSHOT_INLINE void InterleaveParts(const float* a, const float* b, int cells, float* out) {
  for (int c = 0; c < cells; c += kLanes) {
    FloatVector left[2] = {Load(a + c), Load(b + c)};
#pragma GCC unroll 3
    for (int part = 0; part < kParts<Cell::kSplit>; ++part) {
      const UnsignedVector pairs =
          reinterpret_cast<UnsignedVector>(left[0]) >> 16 | (reinterpret_cast<UnsignedVector>(left[1]) & 0xffff0000u);
      Store(reinterpret_cast<FloatVector>(pairs), out + part * cells + c);
      for (FloatVector& x : left) x = BelowUpperHalf(x);
    }
  }
}
#endif

// 16 rows of cells as they lie in memory, or, where they end within a vector or are of the other type, copies of them;
// those to be split are of floats.
template <Cell kCell>
struct GroupRows {
  // Rows [0, count) of `view` at frames frame_of(i), zeros behind. cells: as wide as wanted, a multiple of 16 or, of
  // bf16, of 8.
  template <class FrameOf>
  EARSHOT_INLINE void Set(const ConstHeadsView& view, KernelType type, int head, int d, int cells, int count,
                          FrameOf frame_of) {
    const int bytes = d * (type == KernelType::kFloat ? 4 : 2);
    const bool as_is = (kCell == Cell::kShorts || type == KernelType::kFloat) && bytes == cells * 4;
    for (int i = 0; i < kGroup; ++i) {
      float* copy = copies + i * kRowStep;
      rows[i] = copy;
      if (i >= count) {
        ZeroRow(cells, copy);
      } else if (as_is) {
        rows[i] = reinterpret_cast<const float*>(HeadRow(view, type, frame_of(i), head));
      } else {
        LoadRow<kCell == Cell::kShorts ? kCell : Cell::kFloat>(type, HeadRow(view, type, frame_of(i), head), d, cells,
                                                               copy);
      }
    }
  }

  const float* rows[kGroup];
  alignas(64) float copies[kGroup * kRowStep];
};

// Cells of a key and of a value row, padded.
template <Cell kCell>
constexpr int KeyCells(int head_dim) {
  return kParts<kCell> * RoundUp((head_dim + kValuesInCell<kCell> - 1) / kValuesInCell<kCell>, kGroup);
}
constexpr int ValueCells(int head_dim) { return RoundUp(head_dim, kGroup); }  // of sums
template <Cell kCell>
constexpr int PackedValueCells(int head_dim) {  // parts of whole vectors of bf16
  return kCell == Cell::kSplit ? kParts<kCell> * RoundUp(head_dim, 2 * kGroup) : ValueCells(head_dim);
}

// A part of a unit's keys.
struct KeyChunk {
  const KeyEntry* entries = nullptr;
  int count = 0;  // entries
  int num_groups = 0;
  float* keys = nullptr;     // (groups, KeyCells, 16)
  float* values = nullptr;   // (groups, 16 / P, PackedValueCells)
  float* bias = nullptr;     // (groups, 16) bias and score, times log2(e)
  int32_t* first = nullptr;  // (groups, 16) of the entries; first = end = 0 where there is none
  int32_t* end = nullptr;    // (groups, 16)
  GroupRanges* ranges = nullptr;
  bool* packed = nullptr;  // (groups) keys and values are there
};

// Groups beyond the entries are groups that nothing sees.
EARSHOT_INLINE void PackEntries(const AttentionArguments& arguments, int group, const KeyChunk& chunk) {
  const KeyEntry* entries = chunk.entries + static_cast<std::ptrdiff_t>(group) * kGroup;
  const int count = Most(0, Least(kGroup, chunk.count - group * kGroup));
  const int from = group * kGroup;
  int32_t* firsts = chunk.first + from;
  int32_t* ends = chunk.end + from;
  float* bias = chunk.bias + from;
  for (int i = 0; i < count; ++i) {
    firsts[i] = entries[i].first;
    ends[i] = entries[i].end;
  }
  for (int i = count; i < kGroup; ++i) firsts[i] = ends[i] = 0;
  IntVector hull_first = IntVector{} + INT32_MAX, hull_end = {}, core_first = {}, core_end = hull_first;
  for (int i = 0; i < kGroup; i += kLanes) {
    const IntVector first = Load(firsts + i), end = Load(ends + i), seen = first < end;
    const IntVector seen_first = seen ? first : IntVector{} + INT32_MAX, seen_end = seen & end;
    hull_first = seen_first < hull_first ? seen_first : hull_first;
    hull_end = seen_end > hull_end ? seen_end : hull_end;
    core_first = first > core_first ? first : core_first;
    core_end = end < core_end ? end : core_end;
    Store(FloatVector{}, bias + i);
  }
  GroupRanges& ranges = *chunk.ranges;
  ranges.hull_first[group] = Smallest(hull_first);
  ranges.hull_end[group] = -Smallest(-hull_end);
  ranges.core_first[group] = -Smallest(-core_first);
  ranges.core_end[group] = Smallest(core_end);
  if (chunk.packed != nullptr) chunk.packed[group] = false;
  if (arguments.bias != nullptr) {
    for (int i = 0; i < count; ++i) bias[i] = arguments.bias[entries[i].row] * kLog2E;
  }
  if (arguments.scores != nullptr) {
    for (int i = 0; i < count; ++i)
      if (entries[i].score >= 0) bias[i] += arguments.scores[entries[i].score] * kLog2E;
  }
}

template <Cell kCell>
void PackGroup(const AttentionArguments& arguments, int kv_head, int group, const KeyChunk& chunk) {
  const int d = arguments.head_dim, key_cells = KeyCells<kCell>(d), value_cells = PackedValueCells<kCell>(d);
  const KeyEntry* entries = chunk.entries + static_cast<std::ptrdiff_t>(group) * kGroup;
  const int count = Most(0, Least(kGroup, chunk.count - group * kGroup));
  const auto frame_of = [&](int i) { return static_cast<int64_t>(entries[i].row); };
  GroupRows<kCell> group_rows;
  float* keys = chunk.keys + static_cast<std::ptrdiff_t>(group) * key_cells * kGroup;
  float* values = chunk.values + static_cast<std::ptrdiff_t>(group) * (kGroup / kValuesInCell<kCell>)*value_cells;
#if defined(__AVX512BF16__)
  if (kCell == Cell::kSplit) {
    const int cells = key_cells / kParts<kCell>;
    group_rows.Set(arguments.k, arguments.type, kv_head, d, 2 * cells, count, frame_of);
    TransposeParts(group_rows.rows, cells, keys);
    group_rows.Set(arguments.v, arguments.type, kv_head, d, 2 * cells, count, frame_of);
    for (int i = 0; i < kGroup; i += 2)
      InterleaveParts(group_rows.rows[i], group_rows.rows[i + 1], 2 * cells, values + i / 2 * value_cells);
    chunk.packed[group] = true;
    return;
  }
#endif
  group_rows.Set(arguments.k, arguments.type, kv_head, d, key_cells, count, frame_of);
  TransposeGroup(group_rows.rows, key_cells, keys);
  if (kCell == Cell::kFloat) {
    for (int i = 0; i < kGroup; ++i) {
      float* to = values + i * value_cells;
      if (i < count) {
        LoadRow<kCell>(arguments.type, HeadRow(arguments.v, arguments.type, frame_of(i), kv_head), d, value_cells, to);
      } else {
        ZeroRow(value_cells, to);
      }
    }
  } else {
    // Rows of bf16 have 2 bytes for each of value_cells.
    group_rows.Set(arguments.v, arguments.type, kv_head, d, value_cells / 2, count, frame_of);
    for (int i = 0; i < kGroup; i += 2)
      InterleaveRows(group_rows.rows[i], group_rows.rows[i + 1], value_cells, values + i / 2 * value_cells);
  }
  chunk.packed[group] = true;
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
