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

// Copies 8 or 16 bytes to shared memory in the background; writes zeros, and reads nothing, unless valid. The copying
// thread sees them after WaitCopies, the others after the next barrier.
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

struct alignas(8) Pair32 {
  float x, y;
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
  extern __shared__ __align__(128) unsigned char earshot_shared_memory[];
  return reinterpret_cast<V*>(earshot_shared_memory);
}

}  // namespace earshot::cuda
#endif

namespace earshot::cuda {

inline constexpr int kWarp = 32;
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
