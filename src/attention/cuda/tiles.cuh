// Tiles of 64 rows in shared memory, and the products of a warp with them. A warp owns 16 rows of the tile on the left;
// a row of a tile is padded by 16 bytes, so that the eight rows that ldmatrix reads at once lie in different banks.
#pragma once

#include <cmath>

#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/cuda/primitives.cuh"

namespace earshot::cuda {

inline constexpr int kThreads = 128;
inline constexpr int kTile = 64;
inline constexpr int kWarpRows = 16;
inline constexpr float kLog2e = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

// kPad: head_dim up to the next of 32, 64, 96, 128; the channels behind head_dim are zero.
template <int kPad>
struct TileShape {
  static constexpr int kPitch = kPad + 8;
  static constexpr int kElements = kTile * kPitch;
  static constexpr int kPairs = kPad / 16;  // of chunks of 8 channels, in a row
  static constexpr int kTurns = kTile * kPairs / kThreads;
  // Blocks that share a multiprocessor: what bounds the registers.
  static constexpr int kBlocks = kPad <= 32 ? 4 : kPad <= 64 ? 3 : 2;
  static constexpr int kStagingPitch = kPad + 4;
  static constexpr int kStagingFloats = kWarpRows * kStagingPitch;  // of a warp
};

// One head of a matrix.
struct Rows {
  const uint16_t* data;
  int64_t stride;
  int head_dim;
  bool fast;  // chunks of 8 channels are aligned
};

__device__ __forceinline__ Rows HeadOf(const CudaConstHeads& heads, int head, int head_dim, bool fast) {
  return {static_cast<const uint16_t*>(heads.data) + head * heads.head_stride, heads.frame_stride, head_dim, fast};
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
      const uint16_t* from = rows.data + row * rows.stride;
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
    const uint16_t* from = rows.data + Max(row, 0) * rows.stride;
    uint16_t* to = tile + chunks.row * TileShape<kPad>::kPitch;
    const bool first = row >= 0 && chunks.first * 8 < rows.head_dim;
    const bool second = row >= 0 && chunks.second * 8 < rows.head_dim;
    CopyAsync<16>(to + chunks.first * 8, first ? from + chunks.first * 8 : rows.data, first);
    CopyAsync<16>(to + chunks.second * 8, second ? from + chunks.second * 8 : rows.data, second);
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

// The 16 rows of the warp, as the left side of products: kept in registers, or read from the tile each time.
template <int kPad, bool kHeld>
class LeftRows {
 public:
  __device__ __forceinline__ void Load(const uint16_t* tile) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    address_ = tile + (warp * kWarpRows + lane % 16) * TileShape<kPad>::kPitch + lane / 16 * 8;
    if constexpr (kHeld) {
      EARSHOT_UNROLL
      for (int step = 0; step < kPad / 16; ++step) LoadMatrices(registers_[step], address_ + step * 16);
    }
  }
  __device__ __forceinline__ void Get(int step, uint32_t (&a)[4]) const {
    if constexpr (kHeld) {
      EARSHOT_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = registers_[step][i];
    } else {
      LoadMatrices(a, address_ + step * 16);
    }
  }

 private:
  const uint16_t* address_;
  uint32_t registers_[kHeld ? kPad / 16 : 1][4];
};

// sums (16, kColumns) = left (16, kPad) times the transpose of rows first_row to first_row + kColumns - 1 of the tile.
// Of a lane: sums[n][0..1] are columns 8 n + 2 (lane % 4) and the next of row lane / 4, [2..3] of row lane / 4 + 8.
template <class T, int kPad, int kColumns, bool kHeld>
__device__ __forceinline__ void MultiplyByRows(float (&sums)[kColumns / 8][4], const LeftRows<kPad, kHeld>& left,
                                               const uint16_t* tile, int first_row) {
  const int lane = threadIdx.x % kWarp;
  const uint16_t* address = tile + (first_row + lane % 8 + lane / 16 * 8) * TileShape<kPad>::kPitch + lane / 8 % 2 * 8;
  EARSHOT_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) sums[n][i] = 0;
  }
  EARSHOT_UNROLL
  for (int step = 0; step < kPad / 16; ++step) {
    uint32_t a[4];
    left.Get(step, a);
    EARSHOT_UNROLL
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      LoadMatrices(b, address + n * 16 * TileShape<kPad>::kPitch + step * 16);
      Mma<T>(sums[2 * n], a, b[0], b[1]);
      Mma<T>(sums[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// sums (16, kPad) += weights (16, kDepth), rounded to T, times rows first_row to first_row + kDepth - 1 of the tile.
template <class T, int kPad, int kDepth>
__device__ __forceinline__ void AddWeightedRows(float (&sums)[kPad / 8][4], const float (&weights)[kDepth / 8][4],
                                                const uint16_t* tile, int first_row) {
  const int lane = threadIdx.x % kWarp;
  const uint16_t* address = tile + (first_row + lane % 16) * TileShape<kPad>::kPitch + lane / 16 * 8;
  EARSHOT_UNROLL
  for (int step = 0; step < kDepth / 16; ++step) {
    const uint32_t a[4] = {PackPair<T>(weights[2 * step][0], weights[2 * step][1]),
                           PackPair<T>(weights[2 * step][2], weights[2 * step][3]),
                           PackPair<T>(weights[2 * step + 1][0], weights[2 * step + 1][1]),
                           PackPair<T>(weights[2 * step + 1][2], weights[2 * step + 1][3])};
    EARSHOT_UNROLL
    for (int n = 0; n < kPad / 16; ++n) {
      uint32_t b[4];
      LoadMatricesTransposed(b, address + step * 16 * TileShape<kPad>::kPitch + n * 16);
      Mma<T>(sums[2 * n], a, b[0], b[1]);
      Mma<T>(sums[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// Over the four lanes that hold a row of sums.
__device__ __forceinline__ float RowSum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}
__device__ __forceinline__ float RowMax(float value) {
  value = Max(value, __shfl_xor_sync(kAllLanes, value, 1));
  return Max(value, __shfl_xor_sync(kAllLanes, value, 2));
}

// Writes the warp's 16 rows of sums, times low_scale and high_scale for rows lane / 4 and lane / 4 + 8, to rows
// row_of(0..15) of one head, none where it is negative. With a rotation it is undone: the gradient of what was rotated.
// `staging`: the warp's kStagingFloats of shared memory. All lanes must be here.
template <class T, int kPad, class RowOf>
__device__ void WriteRows(const float (&sums)[kPad / 8][4], float low_scale, float high_scale, float* staging,
                          const CudaHeads& heads, int head, int head_dim, bool fast, const Rotation& rotation,
                          RowOf row_of) {
  constexpr int kPitch = TileShape<kPad>::kStagingPitch;
  const int lane = threadIdx.x % kWarp;
  __syncwarp();
  EARSHOT_UNROLL
  for (int n = 0; n < kPad / 8; ++n) {
    float* to = staging + lane / 4 * kPitch + n * 8 + lane % 4 * 2;
    SharedStore(reinterpret_cast<Pair32*>(to), Pair32{sums[n][0] * low_scale, sums[n][1] * low_scale});
    SharedStore(reinterpret_cast<Pair32*>(to + 8 * kPitch), Pair32{sums[n][2] * high_scale, sums[n][3] * high_scale});
  }
  __syncwarp();
  uint16_t* data = static_cast<uint16_t*>(heads.data) + head * heads.head_stride;
  const int half = head_dim / 2;
  EARSHOT_NO_UNROLL
  for (int index = lane; index < kWarpRows * (kPad / 4); index += kWarp) {
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
    uint16_t* to = data + row * heads.frame_stride + channel;
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
