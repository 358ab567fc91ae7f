// The vectors of the row kernels: kLanes floats, how they are read and written, and functions of them. Included by
// row_kernel_lanes.h alone, and local to the file as that is.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "src/nn/row_kernel.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {
namespace {

#define EARSHOT_INLINE __attribute__((always_inline))

constexpr int kLanes = EARSHOT_KERNEL_LANES;
static_assert(kDepthwiseChannels % kLanes == 0);

using Float = float __attribute__((vector_size(kLanes * sizeof(float))));
using Int = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));
using Unsigned = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));
using Bf16 = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));
using Byte = int8_t __attribute__((vector_size(kLanes)));

EARSHOT_INLINE inline Float Broadcast(float x) { return Float{} + x; }

EARSHOT_INLINE inline Float Max(Float a, Float b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
EARSHOT_INLINE inline Float Min(Float a, Float b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

// The conversions by name: GCC 12 makes two halves of a vector of 16.
EARSHOT_INLINE inline Float Widen(Bf16 x) {
#if defined(__AVX512F__)
  const auto wide = reinterpret_cast<Unsigned>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(x)));
#elif defined(__AVX2__)
  const auto wide = reinterpret_cast<Unsigned>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(x)));
#else
  const auto wide = __builtin_convertvector(x, Unsigned);
#endif
  return reinterpret_cast<Float>(wide << 16);
}

EARSHOT_INLINE inline Byte ToBytes(Int x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Byte>(_mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(x)));
#else
  return __builtin_convertvector(x, Byte);
#endif
}

// To the nearest, ties to even; NaN stays NaN.
EARSHOT_INLINE inline Bf16 Narrow(Float x) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<Bf16>(_mm512_cvtneps_pbh(x));
#else
  const auto bits = reinterpret_cast<Unsigned>(x);
  const Unsigned rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const auto nan = reinterpret_cast<Unsigned>(x != x);
  const Unsigned chosen = (rounded & ~nan) | (nan & 0x7fc0U);
#if defined(__AVX512F__)
  return reinterpret_cast<Bf16>(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(chosen)));
#else
  return __builtin_convertvector(chosen, Bf16);
#endif
#endif
}

// `count` values from p, 1 to kLanes; zeros behind them.
template <class Vector, class T>
EARSHOT_INLINE inline Vector LoadVector(const T* p, int count) {
  Vector x;
  if (count == kLanes) {
    __builtin_memcpy(&x, p, sizeof(x));
  } else {
    T values[kLanes] = {};
    for (int i = 0; i < count; ++i) values[i] = p[i];
    __builtin_memcpy(&x, values, sizeof(x));
  }
  return x;
}
EARSHOT_INLINE inline Float Load(const float* p, int count = kLanes) { return LoadVector<Float>(p, count); }
EARSHOT_INLINE inline Float Load(const uint16_t* p, int count = kLanes) { return Widen(LoadVector<Bf16>(p, count)); }

template <class Vector, class T>
EARSHOT_INLINE inline void StoreVector(Vector x, T* p, int count) {
  if (count == kLanes) {
    __builtin_memcpy(p, &x, sizeof(x));
  } else {
    T values[kLanes];
    __builtin_memcpy(values, &x, sizeof(x));
    for (int i = 0; i < count; ++i) p[i] = values[i];
  }
}
EARSHOT_INLINE inline void Store(Float x, float* p, int count = kLanes) { StoreVector(x, p, count); }
EARSHOT_INLINE inline void Store(Float x, uint16_t* p, int count = kLanes) { StoreVector(Narrow(x), p, count); }

// Calls f(c, count) for the channels c ... c + count - 1, kLanes at a time.
template <class F>
EARSHOT_INLINE inline void ForChannels(int64_t dim, const F& f) {
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) f(c, kLanes);
  if (c < dim) f(c, static_cast<int>(dim - c));
}

EARSHOT_INLINE inline float SumOf(Float x) {
  float total[kLanes];
  __builtin_memcpy(total, &x, sizeof(x));
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) total[i] += total[i + width];
  return total[0];
}
EARSHOT_INLINE inline float MaxOf(Float x) {
  float most[kLanes];
  __builtin_memcpy(most, &x, sizeof(x));
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) most[i] = most[i] > most[i + width] ? most[i] : most[i + width];
  return most[0];
}

EARSHOT_INLINE inline Float Reciprocal(Float x) {
#if defined(__AVX512F__)
  // 14 bits, and one step of Newton's: a division takes four times as long.
  const Float r = _mm512_rcp14_ps(x);
  return r * (2.0F - x * r);
#else
  return 1.0F / x;
#endif
}

// 1 / (1 + exp(-x)). Exact to 3 units in the last place of a float, or, if kNarrow, to 1e-4 of the value, which is a
// fortieth of a unit of bf16.
template <bool kNarrow>
EARSHOT_INLINE inline Float Sigmoid(Float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kRound = 12582912.0F;  // 1.5 x 2^23: what is added to it is rounded to an integer
  // exp(-x) = 2^n 2^f, |f| <= 1/2. Beyond 115 sigmoid is 0 or 1.
  const Float t = Min(Max(x * -kLog2E, Broadcast(-115.0F)), Broadcast(115.0F));
  const Float shifted = t + kRound;
  const Float n = shifted - kRound;
  Float power;  // 2^f by its Taylor series: ln(2)^i / i!
  if constexpr (kNarrow) {
    const Float f = t - n;
    power = 1.0F + f * (0.69314718F + f * (0.24022651F + f * (0.05550411F + f * 0.00961813F)));
  } else {
    // From x itself: its product with log2 e has lost bits.
    const Float f = (-x - n * 0.693359375F) - n * -2.12194440e-4F;
    const Float bounded = Min(Max(f, Broadcast(-0.35F)), Broadcast(0.35F));
    power = 1.0F +
            bounded *
                (1.0F +
                 bounded * (0.5F + bounded * (1.0F / 6 + bounded * (1.0F / 24 +
                                                                    bounded * (1.0F / 120 + bounded * (1.0F / 720))))));
  }
  const auto scaled = reinterpret_cast<Float>(reinterpret_cast<Int>(power) + (reinterpret_cast<Int>(shifted) << 23));
#if defined(__AVX512F__)
  if constexpr (kNarrow) return _mm512_rcp14_ps(1.0F + scaled);
#endif
  return Reciprocal(1.0F + scaled);
}

template <RowFunction kFunction, bool kNarrow>
EARSHOT_INLINE inline Float Apply(Float x) {
  if constexpr (kFunction == RowFunction::kSilu) return x * Sigmoid<kNarrow>(x);
  if constexpr (kFunction == RowFunction::kRelu) return Max(x, Float{});
  return x;
}

}  // namespace
}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
