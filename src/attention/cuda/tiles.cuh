// Tiles of 64 rows in shared memory, and the products of a warp with them. A warp owns one or two groups of 16 rows on
// the left, and what it reads of the right side serves all of them; a row of a tile is padded by 16 bytes, so that the
// eight rows that ldmatrix reads at once lie in different banks.
#pragma once

#include <cmath>

#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/cuda/primitives.cuh"

namespace earshot::cuda {

inline constexpr int kThreads = 128;
inline constexpr int kTile = 64;
inline constexpr int kGroupRows = 16;
inline constexpr int kWarps = kThreads / kWarp;
// Columns of weights that are computed at once, so that they stay in registers.
inline constexpr int kUnit = 32;
inline constexpr float kLog2e = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

// kPad: head_dim up to the next of 32, 64, 96, 128; the channels behind head_dim are zero.
template <int kPad>
struct TileShape {
  static constexpr int kPitch = kPad + 8;
  static constexpr int kElements = kTile * kPitch;
  static constexpr int kPairs = kPad / 16;  // of chunks of 8 channels, in a row
  static constexpr int kTurns = kTile * kPairs / kThreads;
  static constexpr int kStagingPitch = kPad + 4;
  static constexpr int kStagingFloats = kGroupRows * kStagingPitch;  // of a warp
  // Of a kernel that goes by tiles of queries: groups of a warp, queries of a block, and blocks for a tile of queries.
  static constexpr int kGroups = kPad <= 64 ? 2 : 1;
  static constexpr int kQueries = kWarps * kGroups * kGroupRows;
  static constexpr int kParts = kCudaTileQueries / kQueries;
};

// One head of a matrix.
struct Rows {
  const uint16_t* data;
  int32_t row_bytes;  // from a row to the next
  int head_dim;
  bool fast;  // chunks of 8 channels are aligned

  __device__ __forceinline__ const uint16_t* At(int row, int channel = 0) const {
    return static_cast<const uint16_t*>(RowAddress(data + channel, row, row_bytes));
  }
};

__device__ __forceinline__ Rows HeadOf(const CudaConstHeads& heads, int head, int head_dim, bool fast) {
  return {static_cast<const uint16_t*>(heads.data) + head * heads.head_stride,
          static_cast<int32_t>(2 * heads.frame_stride), head_dim, fast};
}

struct MutableRows {
  uint16_t* data;
  int32_t row_bytes;

  __device__ __forceinline__ uint16_t* At(int row, int channel) const {
    return static_cast<uint16_t*>(const_cast<void*>(RowAddress(data + channel, row, row_bytes)));
  }
};

__device__ __forceinline__ MutableRows HeadOf(const CudaHeads& heads, int head) {
  return {static_cast<uint16_t*>(heads.data) + head * heads.head_stride, static_cast<int32_t>(2 * heads.frame_stride)};
}

// Rotation of the rows of one matrix.
struct Rotation {
  const float* cosines;  // null: none
  const float* sines;
  const int32_t* positions;

  __device__ __forceinline__ int32_t PositionOf(int row) const { return positions ? positions[row] : row; }
};

// In each turn a thread has two chunks of a row: those that rotate together, where `half_chunks` do; it may rotate what
// it copied itself before anybody else sees it.
struct Chunks {
  int row, first, second;
};
template <int kPad>
__device__ __forceinline__ Chunks ChunksOf(int turn, int half_chunks) {
  constexpr int kPairs = TileShape<kPad>::kPairs;
  const int index = turn * kThreads + static_cast<int>(threadIdx.x);
  const int pair = index % kPairs;
  const bool together = pair < half_chunks;
  return {index / kPairs, together ? pair : 2 * pair, together ? pair + half_chunks : 2 * pair + 1};
}
template <int kPad>
__device__ __forceinline__ int HalfChunks(const Rows& rows, const Rotation& rotation) {
  return rotation.cosines ? rows.head_dim / 16 : TileShape<kPad>::kPairs;
}

// Any head_dim and alignment, at once instead of in the background, rotated already.
template <class T, int kPad, class RowOf>
__device__ void CopyTileSlowly(uint16_t* tile, const Rows& rows, const Rotation& rotation, RowOf row_of) {
  const int half = rows.head_dim / 2;
  EARSHOT_NO_UNROLL
  for (int index = threadIdx.x; index < kTile * kPad; index += kThreads) {
    const int r = index / kPad, channel = index % kPad;
    const int row = row_of(r);
    uint16_t value = 0;
    if (row >= 0 && channel < rows.head_dim) {
      const uint16_t* from = rows.At(row);
      value = from[channel];
      if (rotation.cosines) {
        const bool low = channel < half;
        const int64_t angle = static_cast<int64_t>(rotation.PositionOf(row)) * half + (low ? channel : channel - half);
        const float x = T::ToFloat(value), y = T::ToFloat(from[low ? channel + half : channel - half]);
        const float sine = rotation.sines[angle];
        value = T::FromFloat(x * rotation.cosines[angle] + (low ? -y : y) * sine);
      }
    }
    SharedStore(tile + r * TileShape<kPad>::kPitch + channel, value);
  }
}

// Begins to copy the rows row_of(0) to row_of(63), zeros where it is negative.
template <class T, int kPad, class RowOf>
__device__ __forceinline__ void CopyTile(uint16_t* tile, const Rows& rows, const Rotation& rotation, RowOf row_of) {
  if (!rows.fast) {
    CopyTileSlowly<T, kPad>(tile, rows, rotation, row_of);
    return;
  }
  const int half_chunks = HalfChunks<kPad>(rows, rotation);
  EARSHOT_UNROLL
  for (int turn = 0; turn < TileShape<kPad>::kTurns; ++turn) {
    const Chunks chunks = ChunksOf<kPad>(turn, half_chunks);
    const int row = row_of(chunks.row);
    uint16_t* to = tile + chunks.row * TileShape<kPad>::kPitch;
    EARSHOT_UNROLL
    for (const int channel : {chunks.first * 8, chunks.second * 8})
      CopyAsync<16>(to + channel, rows.At(row, channel), row >= 0 && channel < rows.head_dim);
  }
}

// Rotates the chunks that this thread copied; looks up positions before the copies are waited for.
template <class T, int kPad>
class TileRotation {
 public:
  template <class RowOf>
  __device__ __forceinline__ TileRotation(const Rows& rows, const Rotation& rotation, RowOf row_of)
      : rotation_(rotation), half_chunks_(rows.fast && rotation.cosines ? rows.head_dim / 16 : 0) {
    EARSHOT_UNROLL
    for (int turn = 0; turn < kTurns; ++turn) {
      const Chunks chunks = ChunksOf<kPad>(turn, half_chunks_);
      const int row = chunks.first < half_chunks_ ? row_of(chunks.row) : -1;
      positions_[turn] = row < 0 ? -1 : rotation.PositionOf(row);
    }
  }

  // After WaitCopies, before the barrier.
  __device__ __forceinline__ void Apply(uint16_t* tile) {
    EARSHOT_UNROLL
    for (int turn = 0; turn < kTurns; ++turn) {
      if (positions_[turn] < 0) continue;
      const Chunks chunks = ChunksOf<kPad>(turn, half_chunks_);
      const int64_t angle = (static_cast<int64_t>(positions_[turn]) * half_chunks_ + chunks.first) * 8;
      auto* a = reinterpret_cast<Octet16*>(tile + chunks.row * TileShape<kPad>::kPitch + chunks.first * 8);
      auto* b = reinterpret_cast<Octet16*>(tile + chunks.row * TileShape<kPad>::kPitch + chunks.second * 8);
      Octet16 x = SharedLoad(a), y = SharedLoad(b);
      EARSHOT_UNROLL
      for (int i = 0; i < 2; ++i) {
        const Quad32 c = *reinterpret_cast<const Quad32*>(rotation_.cosines + angle + 4 * i);
        const Quad32 s = *reinterpret_cast<const Quad32*>(rotation_.sines + angle + 4 * i);
        RotatePair(x.pairs[2 * i], y.pairs[2 * i], c.x, s.x, c.y, s.y);
        RotatePair(x.pairs[2 * i + 1], y.pairs[2 * i + 1], c.z, s.z, c.w, s.w);
      }
      SharedStore(a, x);
      SharedStore(b, y);
    }
  }

 private:
  static constexpr int kTurns = TileShape<kPad>::kTurns;

  static __device__ __forceinline__ void RotatePair(uint32_t& x, uint32_t& y, float c0, float s0, float c1, float s1) {
    const float x0 = LowOf<T>(x), x1 = HighOf<T>(x), y0 = LowOf<T>(y), y1 = HighOf<T>(y);
    x = PackPair<T>(x0 * c0 - y0 * s0, x1 * c1 - y1 * s1);
    y = PackPair<T>(y0 * c0 + x0 * s0, y1 * c1 + x1 * s1);
  }

  const Rotation rotation_;
  const int half_chunks_;      // 0: nothing rotates here
  int32_t positions_[kTurns];  // -1: nothing to rotate
};

// The rows of the warp, as the left side of products: kept in registers, or read from the tile each time.
template <int kPad, bool kHeld, int kGroups>
class LeftRows {
 public:
  // Of the rows from the tile's first one on: warp w has 16 kGroups rows from 16 kGroups w on.
  __device__ __forceinline__ void Load(const uint16_t* tile) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    address_ = tile + (warp * kGroups * kGroupRows + lane % 16) * TileShape<kPad>::kPitch + lane / 16 * 8;
    if constexpr (kHeld) {
      EARSHOT_UNROLL
      for (int step = 0; step < kPad / 16; ++step) {
        EARSHOT_UNROLL
        for (int g = 0; g < kGroups; ++g) LoadMatrices(registers_[step][g], AddressOf(step, g));
      }
    }
  }
  __device__ __forceinline__ void Get(int step, uint32_t (&a)[kGroups][4]) const {
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      if constexpr (kHeld) {
        EARSHOT_UNROLL
        for (int i = 0; i < 4; ++i) a[g][i] = registers_[step][g][i];
      } else {
        LoadMatrices(a[g], AddressOf(step, g));
      }
    }
  }

 private:
  __device__ __forceinline__ const uint16_t* AddressOf(int step, int group) const {
    return address_ + group * kGroupRows * TileShape<kPad>::kPitch + step * 16;
  }

  const uint16_t* address_;
  uint32_t registers_[kHeld ? kPad / 16 : 1][kGroups][4];
};

// What a warp has of a matrix with kColumns columns. Of a lane: [g][n][0..1] are columns 8 n + 2 (lane % 4) and the
// next of row lane / 4 of group g, [2..3] of row lane / 4 + 8.
template <int kGroups, int kColumns>
using Sums = float[kGroups][kColumns / 8][4];
// The same, rounded, as the left side of a product: [g][s] are columns 16 s to 16 s + 15.
template <int kGroups, int kColumns>
using Packed = uint32_t[kGroups][kColumns / 16][4];

// sums = left (16 kGroups, kPad) times the transpose of rows first_row to first_row + kColumns - 1 of the tile.
template <class T, int kPad, int kColumns, bool kHeld, int kGroups>
__device__ __forceinline__ void MultiplyByRows(Sums<kGroups, kColumns>& sums,
                                               const LeftRows<kPad, kHeld, kGroups>& left, const uint16_t* tile,
                                               int first_row) {
  const int lane = threadIdx.x % kWarp;
  const uint16_t* address = tile + (first_row + lane % 8 + lane / 16 * 8) * TileShape<kPad>::kPitch + lane / 8 % 2 * 8;
  EARSHOT_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    EARSHOT_UNROLL
    for (int n = 0; n < kColumns / 8; ++n) {
      EARSHOT_UNROLL
      for (int i = 0; i < 4; ++i) sums[g][n][i] = 0;
    }
  }
  EARSHOT_UNROLL
  for (int step = 0; step < kPad / 16; ++step) {
    uint32_t a[kGroups][4];
    left.Get(step, a);
    EARSHOT_UNROLL
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      LoadMatrices(b, address + n * 16 * TileShape<kPad>::kPitch + step * 16);
      EARSHOT_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        Mma<T>(sums[g][2 * n], a[g], b[0], b[1]);
        Mma<T>(sums[g][2 * n + 1], a[g], b[2], b[3]);
      }
    }
  }
}

template <class T, int kColumns, int kGroups>
__device__ __forceinline__ void Pack(const Sums<kGroups, kColumns>& sums, Packed<kGroups, kColumns>& packed) {
  EARSHOT_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    EARSHOT_UNROLL
    for (int i = 0; i < kColumns / 4; ++i)
      packed[g][i / 4][i % 4] = PackPair<T>(sums[g][i / 2][i % 2 * 2], sums[g][i / 2][i % 2 * 2 + 1]);
  }
}

// sums (16 kGroups, kPad) += weights (16 kGroups, kDepth) times rows first_row to first_row + kDepth - 1 of the tile.
template <class T, int kPad, int kDepth, int kGroups>
__device__ __forceinline__ void AddWeightedRows(Sums<kGroups, kPad>& sums, const Packed<kGroups, kDepth>& weights,
                                                const uint16_t* tile, int first_row) {
  const int lane = threadIdx.x % kWarp;
  const uint16_t* address = tile + (first_row + lane % 16) * TileShape<kPad>::kPitch + lane / 16 * 8;
  EARSHOT_UNROLL
  for (int step = 0; step < kDepth / 16; ++step) {
    EARSHOT_UNROLL
    for (int n = 0; n < kPad / 16; ++n) {
      uint32_t b[4];
      LoadMatricesTransposed(b, address + step * 16 * TileShape<kPad>::kPitch + n * 16);
      EARSHOT_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        Mma<T>(sums[g][2 * n], weights[g][step], b[0], b[1]);
        Mma<T>(sums[g][2 * n + 1], weights[g][step], b[2], b[3]);
      }
    }
  }
}

// totals[g][0], of row lane / 4 of group g, and totals[g][2], of row lane / 4 + 8, += the row's sum of weights: a
// product with a column of ones costs less than adding them up.
template <class T, int kDepth, int kGroups>
__device__ __forceinline__ void AddRowSums(float (&totals)[kGroups][4], const Packed<kGroups, kDepth>& weights) {
  EARSHOT_UNROLL
  for (int step = 0; step < kDepth / 16; ++step) {
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) Mma<T>(totals[g], weights[g][step], T::kOnes, T::kOnes);
  }
}

// Over the four lanes that hold a row of sums.
__device__ __forceinline__ float RowSum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}
__device__ __forceinline__ float RowMax(float value) {
  value = Greater(value, __shfl_xor_sync(kAllLanes, value, 1));
  return Greater(value, __shfl_xor_sync(kAllLanes, value, 2));
}

// Where WriteRounded puts a chunk: rows of 64 elements with the swizzle, others behind one another with a gap.
template <int kPad>
inline constexpr int kRoundedBytes = kGroupRows*(kPad == 64 ? 64 : TileShape<kPad>::kPitch) * 2;
template <int kPad>
__device__ __forceinline__ int RoundedChunk(int row, int chunk) {
  return kPad == 64 ? SwizzledChunk(row, chunk) : row * TileShape<kPad>::kPitch + chunk * 8;
}

// Writes 16 rows of sums of the warp, times low_scale and high_scale for rows lane / 4 and lane / 4 + 8, to rows
// row_of(0..15) of one head, none where it is negative; in chunks of 8 channels, which are aligned. `staging`: shared
// memory for 16 rows of kPitch elements. All lanes must be here.
template <class T, int kPad, class RowOf>
__device__ __forceinline__ void WriteRounded(const float (&sums)[kPad / 8][4], float low_scale, float high_scale,
                                             void* staging, const CudaHeads& heads, int head, int head_dim,
                                             RowOf row_of) {
  constexpr int kChunks = kPad / 8;
  const int lane = threadIdx.x % kWarp;
  const MutableRows rows = HeadOf(heads, head);
  auto* rounded = static_cast<uint16_t*>(staging);
  __syncwarp();
  EARSHOT_UNROLL
  for (int n = 0; n < kPad / 8; ++n) {
    uint16_t* low = rounded + RoundedChunk<kPad>(lane / 4, n) + lane % 4 * 2;
    uint16_t* high = low + RoundedChunk<kPad>(8, 0);
    SharedStore(reinterpret_cast<uint32_t*>(low), PackPair<T>(sums[n][0] * low_scale, sums[n][1] * low_scale));
    SharedStore(reinterpret_cast<uint32_t*>(high), PackPair<T>(sums[n][2] * high_scale, sums[n][3] * high_scale));
  }
  __syncwarp();
  constexpr int kTurns = kGroupRows * kChunks / kWarp;
  // All rows and chunks before the first store: the latter are not reordered.
  int targets[kTurns];
  Octet16 chunks[kTurns];
  EARSHOT_UNROLL
  for (int turn = 0; turn < kTurns; ++turn) {
    const int index = turn * kWarp + lane, r = index / kChunks;
    targets[turn] = row_of(r);
    chunks[turn] = SharedLoad(reinterpret_cast<const Octet16*>(rounded + RoundedChunk<kPad>(r, index % kChunks)));
  }
  EARSHOT_UNROLL
  for (int turn = 0; turn < kTurns; ++turn) {
    const int channel = (turn * kWarp + lane) % kChunks * 8;
    if (targets[turn] >= 0 && channel < head_dim)
      *reinterpret_cast<Octet16*>(rows.At(targets[turn], channel)) = chunks[turn];
  }
}

// The same for any alignment. With a rotation it is undone: the gradient of what was rotated. `staging`: the warp's
// kStagingFloats of shared memory.
template <class T, int kPad, class RowOf>
__device__ void WriteRows(const float (&sums)[kPad / 8][4], float low_scale, float high_scale, float* staging,
                          const CudaHeads& heads, int head, int head_dim, bool fast, const Rotation& rotation,
                          RowOf row_of) {
  if (fast && !rotation.cosines && head_dim % 8 == 0) {
    WriteRounded<T, kPad>(sums, low_scale, high_scale, staging, heads, head, head_dim, row_of);
    return;
  }
  const int lane = threadIdx.x % kWarp;
  const MutableRows rows = HeadOf(heads, head);
  constexpr int kPitch = TileShape<kPad>::kStagingPitch;
  __syncwarp();
  EARSHOT_UNROLL
  for (int n = 0; n < kPad / 8; ++n) {
    float* to = staging + lane / 4 * kPitch + n * 8 + lane % 4 * 2;
    SharedStore(reinterpret_cast<Pair32*>(to), Pair32{sums[n][0] * low_scale, sums[n][1] * low_scale});
    SharedStore(reinterpret_cast<Pair32*>(to + 8 * kPitch), Pair32{sums[n][2] * high_scale, sums[n][3] * high_scale});
  }
  __syncwarp();
  const int half = head_dim / 2;
  EARSHOT_NO_UNROLL
  for (int index = lane; index < kGroupRows * (kPad / 4); index += kWarp) {
    const int r = index / (kPad / 4), channel = index % (kPad / 4) * 4;
    const int row = row_of(r);
    if (row < 0 || channel >= head_dim) continue;
    const float* from = staging + r * kPitch;
    float values[4];
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) {
      values[i] = SharedLoad(from + channel + i);
      if (rotation.cosines) {
        const bool low = channel + i < half;
        const int64_t angle = static_cast<int64_t>(rotation.PositionOf(row)) * half + channel + i - (low ? 0 : half);
        const float other = SharedLoad(from + channel + i + (low ? half : -half));
        values[i] = values[i] * rotation.cosines[angle] + (low ? other : -other) * rotation.sines[angle];
      }
    }
    uint16_t* to = rows.At(row, channel);
    if (fast) {
      struct alignas(8) Quad16 {
        uint32_t pairs[2];
      };
      *reinterpret_cast<Quad16*>(to) = {{PackPair<T>(values[0], values[1]), PackPair<T>(values[2], values[3])}};
    } else {
      EARSHOT_UNROLL
      for (int i = 0; i < 4; ++i) to[i] = T::FromFloat(values[i]);
    }
  }
}

}  // namespace earshot::cuda
