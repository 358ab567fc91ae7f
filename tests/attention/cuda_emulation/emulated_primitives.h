// What src/attention/cuda/primitives.cuh is on the GPU, for the emulation: the same functions, with the layouts of
// fragments that the PTX ISA gives for mma.m16n8k16 and ldmatrix.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/attention/cuda_emulation/cuda_emulation.h"

#define EARSHOT_UNROLL
#define EARSHOT_NO_UNROLL

namespace earshot::cuda {

struct BFloat16 {
  static constexpr uint32_t kOnes = 0x3F803F80;
  static float ToFloat(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
  }
  static uint16_t FromFloat(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return 0x7FFF;
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
};

struct Float16 {
  static constexpr uint32_t kOnes = 0x3C003C00;
  static float ToFloat(uint16_t bits) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
  }
  static uint16_t FromFloat(float value) {
    const auto half = static_cast<_Float16>(value);
    uint16_t bits;
    std::memcpy(&bits, &half, 2);
    return bits;
  }
};

template <class T>
uint32_t PackPair(float low, float high) {
  return T::FromFloat(low) | static_cast<uint32_t>(T::FromFloat(high)) << 16;
}
template <class T>
float LowOf(uint32_t pair) {
  return T::ToFloat(static_cast<uint16_t>(pair));
}
template <class T>
float HighOf(uint32_t pair) {
  return T::ToFloat(static_cast<uint16_t>(pair >> 16));
}

inline float Exp2(float x) { return std::exp2(x); }
inline float Log2(float x) { return std::log2(x); }
inline float Reciprocal(float x) { return 1 / x; }
inline const void* RowAddress(const void* address, int32_t row, int32_t row_bytes) {
  return static_cast<const char*>(address) + static_cast<int64_t>(row) * row_bytes;
}
inline float Greater(float a, float b) { return std::fmax(a, b); }
inline uint32_t AddPairs(uint32_t a, uint32_t b) {
  return PackPair<Float16>(LowOf<Float16>(a) + LowOf<Float16>(b), HighOf<Float16>(a) + HighOf<Float16>(b));
}
inline void MaskPair(float& low, float& high, uint32_t rows, uint32_t range) {
  const float middle = LowOf<Float16>(range), reach = HighOf<Float16>(range);
  if (!(std::fabs(LowOf<Float16>(rows) - middle) <= reach)) low = -INFINITY;
  if (!(std::fabs(HighOf<Float16>(rows) - middle) <= reach)) high = -INFINITY;
}

struct MmaSlot {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};

template <class T>
void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MmaSlot slot{c, a, {b0, b1}};
  earshot::emulation::WarpCollective(
      "mma", &slot,
      [](void** lanes) {
        float a_matrix[16][16], b_matrix[8][16];
        for (int lane = 0; lane < 32; ++lane) {
          const auto* from = static_cast<MmaSlot*>(lanes[lane]);
          const int group = lane / 4, pair = lane % 4 * 2;
          for (int i = 0; i < 4; ++i) {
            const int row = group + i % 2 * 8, column = pair + i / 2 * 8;
            a_matrix[row][column] = LowOf<T>(from->a[i]), a_matrix[row][column + 1] = HighOf<T>(from->a[i]);
          }
          for (int i = 0; i < 2; ++i) {
            b_matrix[group][pair + i * 8] = LowOf<T>(from->b[i]);
            b_matrix[group][pair + i * 8 + 1] = HighOf<T>(from->b[i]);
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          float* sums = static_cast<MmaSlot*>(lanes[lane])->c;
          for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            float sum = 0;
            for (int k = 0; k < 16; ++k) sum += a_matrix[row][k] * b_matrix[column][k];
            sums[i] += sum;
          }
        }
      },
      false);
}

using PhaseBarrier = uint64_t;
inline void InitPhases(PhaseBarrier* barrier, int count) { earshot::emulation::InitPhases(barrier, count); }
inline void ArriveAtPhase(PhaseBarrier* barrier) { earshot::emulation::ArriveAtPhase(barrier); }
inline void WaitForPhase(PhaseBarrier* barrier, uint32_t parity) { earshot::emulation::WaitForPhase(barrier, parity); }

template <int kRegisters>
void GiveUpRegisters() {}
template <int kRegisters>
void TakeRegisters() {}

inline uint32_t TileDescriptor(const uint16_t* tile) {
  const auto offset =
      reinterpret_cast<const char*>(tile) - static_cast<const char*>(earshot::emulation::SharedMemory());
  if (offset % 1024 != 0) earshot::emulation::NoteRead(nullptr, 2);  // no tile can lie there: out of bounds
  return static_cast<uint32_t>(offset) / 16;
}
inline void FenceForProducts() {}
// All of these are one and the same for the four warps of a group.
enum OfGroup { kBegins, kCommits, kMultiplies, kWaits };
inline void BeginProducts() { earshot::emulation::NoteOfGroup(kBegins); }
inline void CommitProducts() {
  earshot::emulation::NoteOfGroup(kCommits);
  earshot::emulation::CommitProducts();
}
template <int kGroupsLeft, int kEighths>
void WaitProducts(float (&)[kEighths][4]) {
  earshot::emulation::NoteOfGroup(kWaits + kGroupsLeft);
  earshot::emulation::WaitProducts(kGroupsLeft);
}

// An element of the tile that the descriptor points into: rows of 128 bytes, whose chunks of 16 bytes are exchanged by
// bits 7 to 9 of the address.
inline const uint16_t* SwizzledAddress(uint32_t descriptor, int row, int column) {
  uint64_t offset = uint64_t{descriptor} * 16 + row * 128 + column * 2;
  offset ^= (offset >> 7 & 7) << 4;
  return reinterpret_cast<const uint16_t*>(static_cast<const char*>(earshot::emulation::SharedMemory()) + offset);
}
inline uint16_t SwizzledElement(uint32_t descriptor, int row, int column) {
  const uint16_t* address = SwizzledAddress(descriptor, row, column);
  earshot::emulation::NoteRead(address, 2);
  return *address;
}

struct ProductSlot {
  float (*c)[4];
  uint32_t a[4];  // unless a_in_tile
  bool a_in_tile;
  uint32_t a_tile, b_tile;
  bool adds;
  int columns;
  bool transposed;  // rows of both tiles are those of the sum
};

// The product reads its tiles when it begins, for the checks, and once more when it is computed.
inline void NoteTiles(const ProductSlot& slot) {
  const auto note = [&](uint32_t tile, int first, int count) {
    for (int k = 0; k < 16; k += slot.transposed ? 1 : 8) {
      for (int i = first; i < first + count; i += slot.transposed ? 8 : 1)
        earshot::emulation::NoteRead(SwizzledAddress(tile, slot.transposed ? k : i, slot.transposed ? i : k), 16);
    }
  };
  if (slot.a_in_tile) note(slot.a_tile, static_cast<int>(threadIdx.x) / 32 % 4 * 16, 16);
  note(slot.b_tile, 0, slot.columns);
}

// Of each warp by itself.
template <class T>
void ComputeProduct(ProductSlot slot) {
  earshot::emulation::WarpCollective(
      "wgmma", &slot,
      [](void** lanes) {
        float a[16][16], b[16][64];
        const ProductSlot& any = *static_cast<ProductSlot*>(lanes[0]);
        const int first_row = static_cast<int>(threadIdx.x) / 32 % 4 * 16;
        for (int row = 0; row < 16; ++row) {
          for (int k = 0; k < 16; ++k) {
            if (!any.a_in_tile) {
              const auto* from = static_cast<ProductSlot*>(lanes[row % 8 * 4 + k % 8 / 2]);
              const uint32_t pair = from->a[row / 8 + k / 8 * 2];
              a[row][k] = k % 2 == 0 ? LowOf<T>(pair) : HighOf<T>(pair);
            } else {
              const int m = first_row + row;
              a[row][k] =
                  T::ToFloat(any.transposed ? SwizzledElement(any.a_tile, k, m) : SwizzledElement(any.a_tile, m, k));
            }
          }
        }
        for (int k = 0; k < 16; ++k) {
          for (int n = 0; n < any.columns; ++n)
            b[k][n] =
                T::ToFloat(any.transposed ? SwizzledElement(any.b_tile, k, n) : SwizzledElement(any.b_tile, n, k));
        }
        for (int lane = 0; lane < 32; ++lane) {
          auto* to = static_cast<ProductSlot*>(lanes[lane]);
          for (int i = 0; i < to->columns / 2; ++i) {
            const int row = lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
            float sum = 0;
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            float& c = to->c[i / 4][i % 4];
            c = to->adds ? c + sum : sum;
          }
        }
      },
      false);
}
template <class T>
void BeginProduct(const ProductSlot& slot) {
  earshot::emulation::NoteOfGroup(kMultiplies);
  if (threadIdx.x % 32 == 0) NoteTiles(slot);
  earshot::emulation::BeginProduct([slot] { ComputeProduct<T>(slot); });
}
template <class T, int kEighths>
void MultiplyTiles(float (&c)[kEighths][4], uint32_t a, uint32_t b, bool adds) {
  BeginProduct<T>({c, {}, true, a, b, adds, 8 * kEighths, false});
}
template <class T>
void AddWeightedTile(float (&c)[8][4], const uint32_t (&a)[4], uint32_t b) {
  BeginProduct<T>({c, {a[0], a[1], a[2], a[3]}, false, 0, b, true, 64, true});
}
template <class T>
void AddTransposedTile(float (&c)[8][4], uint32_t a, uint32_t b) {
  BeginProduct<T>({c, {}, true, a, b, true, 64, true});
}

struct MatrixSlot {
  const uint16_t* address;
  uint32_t* registers;
};

// Lanes 8 m to 8 m + 7 bring the rows of matrix m; lane i gets columns 2 (i % 4) and the next of its row i / 4.
template <bool kTransposed>
void LoadMatricesAs(const char* kind, uint32_t (&registers)[4], const uint16_t* address) {
  earshot::emulation::NoteRead(address, 16);
  MatrixSlot slot{address, registers};
  earshot::emulation::WarpCollective(
      kind, &slot,
      [](void** lanes) {
        for (int matrix = 0; matrix < 4; ++matrix) {
          for (int lane = 0; lane < 32; ++lane) {
            uint16_t pair[2];
            for (int i = 0; i < 2; ++i) {
              const int row = kTransposed ? lane % 4 * 2 + i : lane / 4;
              const int column = kTransposed ? lane / 4 : lane % 4 * 2 + i;
              pair[i] = static_cast<MatrixSlot*>(lanes[matrix * 8 + row])->address[column];
            }
            static_cast<MatrixSlot*>(lanes[lane])->registers[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
          }
        }
      },
      false);
}

inline void LoadMatrices(uint32_t (&registers)[4], const uint16_t* address) {
  LoadMatricesAs<false>("ldmatrix", registers, address);
}
inline void LoadMatricesTransposed(uint32_t (&registers)[4], const uint16_t* address) {
  LoadMatricesAs<true>("ldmatrix.trans", registers, address);
}

template <int kBytes>
void CopyAsync(void* target, const void* source, bool valid) {
  earshot::emulation::CopyAsync(target, valid ? source : nullptr, kBytes);
}
inline void CommitCopies() { earshot::emulation::CommitCopies(); }
template <int kGroupsLeft>
void WaitCopies() {
  earshot::emulation::WaitCopies(kGroupsLeft);
}

struct alignas(8) Pair32 {
  float x, y;
};
struct alignas(8) PairBits {
  uint32_t x, y;
};
struct alignas(16) Quad32 {
  float x, y, z, w;
};
struct alignas(16) Octet16 {
  uint32_t pairs[4];
};

template <class V>
V SharedLoad(const V* address) {
  earshot::emulation::NoteRead(address, sizeof(V));
  V value;
  std::memcpy(&value, address, sizeof(V));
  return value;
}
template <class V>
void SharedStore(V* address, V value) {
  earshot::emulation::NoteWrite(address, sizeof(V));
  std::memcpy(address, &value, sizeof(V));
}

template <class V>
V* DynamicShared() {
  return static_cast<V*>(earshot::emulation::SharedMemory());
}

}  // namespace earshot::cuda
