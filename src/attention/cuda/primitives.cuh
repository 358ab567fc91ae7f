// The instructions that the attention kernels are made of, as small functions: matrix products of warps, asynchronous
// copies, shared memory. Fragment layouts: PTX ISA, "mma.m16n8k16" and "ldmatrix".
//
// Compiled without nvcc, the same functions come from the header that EARSHOT_CUDA_EMULATION names: the emulation of
// the tests. Kernels reach shared memory through SharedLoad and SharedStore alone, so that it sees every access.
#pragma once

#include <cstdint>

#if !defined(__CUDACC__)
#include EARSHOT_CUDA_EMULATION
#else

#include <cuda_runtime.h>

#define EARSHOT_UNROLL _Pragma("unroll")
#define EARSHOT_NO_UNROLL _Pragma("unroll 1")

namespace earshot::cuda {

// An element is uint16_t in memory.
struct BFloat16 {
  static constexpr bool kIsBFloat16 = true;
  static constexpr uint32_t kOnes = 0x3F803F80;  // two
  static __device__ __forceinline__ float ToFloat(uint16_t bits) {
    return __uint_as_float(static_cast<uint32_t>(bits) << 16);
  }
  static __device__ __forceinline__ uint16_t FromFloat(float value) {
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
};

struct Float16 {
  static constexpr bool kIsBFloat16 = false;
  static constexpr uint32_t kOnes = 0x3C003C00;
  static __device__ __forceinline__ float ToFloat(uint16_t bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
  static __device__ __forceinline__ uint16_t FromFloat(float value) {
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
};

// Two elements in a register, the first of them in the low half.
template <class T>
__device__ __forceinline__ uint32_t PackPair(float low, float high);
template <>
__device__ __forceinline__ uint32_t PackPair<BFloat16>(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
template <>
__device__ __forceinline__ uint32_t PackPair<Float16>(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
template <class T>
__device__ __forceinline__ float LowOf(uint32_t pair) {
  return T::ToFloat(static_cast<uint16_t>(pair));
}
template <class T>
__device__ __forceinline__ float HighOf(uint32_t pair) {
  return T::ToFloat(static_cast<uint16_t>(pair >> 16));
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float Log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1 / x, nearly.
__device__ __forceinline__ float Reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// address + row x row_bytes, in one instruction.
__device__ __forceinline__ const void* RowAddress(const void* address, int32_t row, int32_t row_bytes) {
  const void* result;
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(result) : "r"(row), "r"(row_bytes), "l"(address));
  return result;
}

__device__ __forceinline__ float Greater(float a, float b) { return fmaxf(a, b); }

// The sums of two pairs of Float16.
__device__ __forceinline__ uint32_t AddPairs(uint32_t a, uint32_t b) {
  uint32_t sums;
  asm("add.f16x2 %0, %1, %2;" : "=r"(sums) : "r"(a), "r"(b));
  return sums;
}
// low and high where the low and the high half of `rows`, two Float16, are no further from `middle` than `reach`, else
// -infinity. range: middle | reach << 16, as Float16.
__device__ __forceinline__ void MaskPair(float& low, float& high, uint32_t rows, uint32_t range) {
  asm("{\n.reg .b16 middle, reach;\n.reg .b32 middles, reaches, away;\n.reg .pred p, q;\n"
      "mov.b32 {middle, reach}, %3;\nmov.b32 middles, {middle, middle};\nmov.b32 reaches, {reach, reach};\n"
      "sub.f16x2 away, %2, middles;\nabs.f16x2 away, away;\nsetp.le.f16x2 p|q, away, reaches;\n"
      "selp.f32 %0, %0, 0fFF800000, p;\nselp.f32 %1, %1, 0fFF800000, q;\n}\n"
      : "+f"(low), "+f"(high)
      : "r"(rows), "r"(range));
}

// c (16, 8) += a (16, 16) b (16, 8), by a warp.
template <class T>
__device__ __forceinline__ void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void Mma<BFloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void Mma<Float16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t SharedAddress(const void* address) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(address));
}

// Four 8 x 8 matrices of elements; lanes 8 m to 8 m + 7 give the addresses of the rows of matrix m.
__device__ __forceinline__ void LoadMatrices(uint32_t (&registers)[4], const uint16_t* address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(SharedAddress(address))
               : "memory");
}
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&registers)[4], const uint16_t* address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(SharedAddress(address))
               : "memory");
}

// Copies 8 or 16 bytes to shared memory in the background; writes zeros, and reads nothing wherever `source` points,
// unless valid. The copying thread sees them after WaitCopies, the others after the next barrier.
template <int kBytes>
__device__ __forceinline__ void CopyAsync(void* target, const void* source, bool valid) {
  const int bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(target)), "l"(source), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(SharedAddress(target)), "l"(source), "n"(kBytes),
                 "r"(bytes)
                 : "memory");
  }
}
__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the newest kGroupsLeft groups of this thread are there.
template <int kGroupsLeft>
__device__ __forceinline__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}

// A barrier in shared memory that goes from phase to phase, each ended by `count` arrivals (PTX ISA, "mbarrier"; sm_80
// and newer). What was written before an arrival is seen by who has waited for the end of its phase.
using PhaseBarrier = uint64_t;
// By one thread, and a barrier of the block before it is used.
__device__ __forceinline__ void InitPhases(PhaseBarrier* barrier, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(count) : "memory");
}
__device__ __forceinline__ void ArriveAtPhase(PhaseBarrier* barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}\n" ::"r"(SharedAddress(barrier))
               : "memory");
}
// Waits for the end of the phase that has this parity, the one that lasts or the one before.
__device__ __forceinline__ void WaitForPhase(PhaseBarrier* barrier, uint32_t parity) {
  constexpr uint32_t kNanoseconds = 1000000;  // at most, before it looks again
  asm volatile(
      "{\n.reg .pred ended;\nagain:\nmbarrier.try_wait.parity.shared.b64 ended, [%0], %1, %2;\n@!ended bra "
      "again;\n}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity), "r"(kNanoseconds)
      : "memory");
}

// Of four warps that call it together, on sm_90a alone: how many registers each thread has from now on; others' are
// given up before they can be taken.
template <int kRegisters>
__device__ __forceinline__ void GiveUpRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- Products of four warps, of sm_90a alone: PTX ISA, "wgmma.mma_async" ----

// A side of such products: rows of 64 elements in shared memory, from a multiple of 8 rows behind 1024 bytes on, with
// the 128-byte swizzle (SwizzledChunk). Adding n to a descriptor moves its beginning by 16 n bytes. These are the low
// 32 bits, which differ; the others say that 8 rows are 1024 bytes, and the swizzle.
__device__ __forceinline__ uint32_t TileDescriptor(const uint16_t* tile) {
  return (SharedAddress(tile) & 0x3FFFFU) >> 4 | 1U << 16;
}

// What threads wrote to shared memory, copies included, is seen by products that begin after the next barrier.
__device__ __forceinline__ void FenceForProducts() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Before the first product of a group: registers are as they were written.
__device__ __forceinline__ void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

#define EARSHOT_SUMS16(c)                                                                                      \
  "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]),     \
      "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[3][0]), "+f"(c[3][1]), \
      "+f"(c[3][2]), "+f"(c[3][3])
#define EARSHOT_SUMS32(c)                                                                                      \
  EARSHOT_SUMS16(c), "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), \
      "+f"(c[5][2]), "+f"(c[5][3]), "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), \
      "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3])
#define EARSHOT_NAMES16 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define EARSHOT_NAMES32 \
  EARSHOT_NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define EARSHOT_DESCRIPTOR(name, low) ".reg .b64 " name ";\nmov.b64 " name ", {" low ", 0x40000040};\n"
#define EARSHOT_PRODUCT(columns, element, sums, names, descriptors, left, adds, behind, ...)                   \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " adds ", 0;\n" descriptors                                   \
               "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." element "." element " " names "}, " left \
               ", b, p, 1, 1, " behind ";\n}\n"                                                                \
               : sums(c)                                                                                       \
               : __VA_ARGS__)
#define EARSHOT_TILES(columns, element, sums, names, a_name, b_name, adds_name, transposed)                            \
  EARSHOT_PRODUCT(columns, element, sums, names, EARSHOT_DESCRIPTOR("a", a_name) EARSHOT_DESCRIPTOR("b", b_name), "a", \
                  adds_name, transposed, "r"(a), "r"(b), "r"(adds ? 1 : 0))

// c (64, n) = a (64, 16) b (16, n), or += where `adds`, n = 64 or 32; a warp has 16 rows of c, as of Mma. In the
// background until WaitProducts. Here rows of the tiles are rows of a and columns of b, 16 of their elements from the
// descriptors on.
template <class T>
__device__ __forceinline__ void MultiplyTiles(float (&c)[8][4], uint32_t a, uint32_t b, bool adds) {
  if constexpr (T::kIsBFloat16) {
    EARSHOT_TILES("64", "bf16", EARSHOT_SUMS32, EARSHOT_NAMES32, "%32", "%33", "%34", "0, 0");
  } else {
    EARSHOT_TILES("64", "f16", EARSHOT_SUMS32, EARSHOT_NAMES32, "%32", "%33", "%34", "0, 0");
  }
}
template <class T>
__device__ __forceinline__ void MultiplyTiles(float (&c)[4][4], uint32_t a, uint32_t b, bool adds) {
  if constexpr (T::kIsBFloat16) {
    EARSHOT_TILES("32", "bf16", EARSHOT_SUMS16, EARSHOT_NAMES16, "%16", "%17", "%18", "0, 0");
  } else {
    EARSHOT_TILES("32", "f16", EARSHOT_SUMS16, EARSHOT_NAMES16, "%16", "%17", "%18", "0, 0");
  }
}
// += where rows of the tiles are columns of a and rows of b.
template <class T>
__device__ __forceinline__ void AddTransposedTile(float (&c)[8][4], uint32_t a, uint32_t b) {
  constexpr bool adds = true;
  if constexpr (T::kIsBFloat16) {
    EARSHOT_TILES("64", "bf16", EARSHOT_SUMS32, EARSHOT_NAMES32, "%32", "%33", "%34", "1, 1");
  } else {
    EARSHOT_TILES("64", "f16", EARSHOT_SUMS32, EARSHOT_NAMES32, "%32", "%33", "%34", "1, 1");
  }
}
// Here a comes from registers, and rows of the tile are rows of b, 16 of them from the descriptor on.
template <class T>
__device__ __forceinline__ void AddWeightedTile(float (&c)[8][4], const uint32_t (&a)[4], uint32_t b) {
  if constexpr (T::kIsBFloat16) {
    EARSHOT_PRODUCT("64", "bf16", EARSHOT_SUMS32, EARSHOT_NAMES32, EARSHOT_DESCRIPTOR("b", "%36"),
                    "{%32, %33, %34, %35}", "%37", "1", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "r"(1));
  } else {
    EARSHOT_PRODUCT("64", "f16", EARSHOT_SUMS32, EARSHOT_NAMES32, EARSHOT_DESCRIPTOR("b", "%36"),
                    "{%32, %33, %34, %35}", "%37", "1", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "r"(1));
  }
}
// The products begun since the last call are one group of them.
__device__ __forceinline__ void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until all but the newest kGroupsLeft groups of this thread's warps have ended, and for c among them.
template <int kGroupsLeft>
__device__ __forceinline__ void WaitProducts(float (&c)[8][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %32;" : EARSHOT_SUMS32(c) : "n"(kGroupsLeft) : "memory");
}
template <int kGroupsLeft>
__device__ __forceinline__ void WaitProducts(float (&c)[4][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %16;" : EARSHOT_SUMS16(c) : "n"(kGroupsLeft) : "memory");
}
#undef EARSHOT_TILES
#undef EARSHOT_PRODUCT
#undef EARSHOT_DESCRIPTOR
#undef EARSHOT_NAMES32
#undef EARSHOT_NAMES16
#undef EARSHOT_SUMS32
#undef EARSHOT_SUMS16

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
__device__ __forceinline__ V SharedLoad(const V* address) {
  return *address;
}
template <class V>
__device__ __forceinline__ void SharedStore(V* address, V value) {
  *address = value;
}

template <class V>
__device__ __forceinline__ V* DynamicShared() {
  extern __shared__ __align__(1024) unsigned char earshot_shared_memory[];
  return reinterpret_cast<V*>(earshot_shared_memory);
}

}  // namespace earshot::cuda
#endif

namespace earshot::cuda {

inline constexpr int kWarp = 32;
// Where chunk c, of 8 elements, of row r lies in a tile of 64 rows of 64 elements with the 128-byte swizzle.
__host__ __device__ __forceinline__ constexpr int SwizzledChunk(int row, int chunk) {
  return row * 64 + (chunk ^ row % 8) * 8;
}
// n twice, as Float16: 0 to 1023.
__host__ __device__ __forceinline__ constexpr uint32_t PairOf(int n) {
  int exponent = 0;
  while (n >> (exponent + 1) != 0) ++exponent;
  const uint32_t half = n == 0 ? 0U : static_cast<uint32_t>((exponent + 15) << 10 | (n << (10 - exponent) & 0x3FF));
  return half | half << 16;
}
inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;

template <class V>
__host__ __device__ __forceinline__ V Min(V a, V b) {
  return b < a ? b : a;
}
template <class V>
__host__ __device__ __forceinline__ V Max(V a, V b) {
  return a < b ? b : a;
}

}  // namespace earshot::cuda
