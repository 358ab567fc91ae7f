// The vectors of the attention kernels: one source for every width. Included by attention_kernel_{baseline,avx2,avx512,
// avx512bf16,amx}.cc alone, each after defining
//
//   EARSHOT_KERNEL_LANES       floats of a vector: 4, 8 or 16
//   EARSHOT_KERNEL_NAMESPACE   a name of its own for everything here
//
// Everything is in that namespace and nothing is shared with other files: see attention_kernel_level.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "src/attention/attention_kernel_level.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

#define EARSHOT_INLINE inline __attribute__((always_inline))

constexpr int kLanes = EARSHOT_KERNEL_LANES;

using FloatVector = float __attribute__((vector_size(kLanes * sizeof(float))));
using IntVector = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));
using UnsignedVector = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));
using ShortVector = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));
// Rows of bf16 are read as cells too.
using UnalignedVector = float __attribute__((vector_size(kLanes * sizeof(float)), aligned(2), may_alias));
using UnalignedInts = int32_t __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));
using UnalignedShorts =
    uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t)), aligned(sizeof(uint16_t)), may_alias));

constexpr float kInfinity = __builtin_inff();
constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

constexpr int RoundUp(int n, int unit) { return (n + unit - 1) / unit * unit; }
constexpr int Least(int a, int b) { return a < b ? a : b; }
constexpr int Most(int a, int b) { return a > b ? a : b; }

EARSHOT_INLINE FloatVector Load(const float* p) { return *reinterpret_cast<const UnalignedVector*>(p); }
EARSHOT_INLINE void Store(FloatVector x, float* p) { *reinterpret_cast<UnalignedVector*>(p) = x; }
EARSHOT_INLINE IntVector Load(const int32_t* p) { return *reinterpret_cast<const UnalignedInts*>(p); }
// Of the bits, whatever they stand for. (x + 0 is no mere copy: it would turn -0 into 0; x - 0 is.)
EARSHOT_INLINE FloatVector Broadcast(float x) {
#if defined(__AVX512F__)
  return reinterpret_cast<FloatVector>(_mm512_set1_ps(x));
#else
  return x - FloatVector{};
#endif
}
EARSHOT_INLINE FloatVector Max(FloatVector a, FloatVector b) { return a > b ? a : b; }

// bf16 is the upper half of a float.
EARSHOT_INLINE FloatVector LoadShorts(const uint16_t* p) {
  const ShortVector shorts = *reinterpret_cast<const UnalignedShorts*>(p);
  return reinterpret_cast<FloatVector>(__builtin_convertvector(shorts, UnsignedVector) << 16);
}
EARSHOT_INLINE float FromShort(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}
// To the nearest, ties to even; what is no number stays none.
EARSHOT_INLINE uint16_t ToShort(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  if (__builtin_isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
EARSHOT_INLINE void StoreShorts(FloatVector x, uint16_t* p) {
#if defined(__AVX512BF16__)
  const __m256bh shorts = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(x));
  __builtin_memcpy(p, &shorts, sizeof(shorts));
  return;
#endif
  const auto bits = reinterpret_cast<UnsignedVector>(x);
  const UnsignedVector rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const UnsignedVector none = bits >> 16 | 0x40;
  const IntVector is_none = x != x;  // NOLINT(misc-redundant-expression)
  *reinterpret_cast<UnalignedShorts*>(p) = __builtin_convertvector(is_none ? none : rounded, ShortVector);
}

EARSHOT_INLINE float Sum(FloatVector x) {
  using Four = float __attribute__((vector_size(16)));
  Four parts[kLanes / 4];
  __builtin_memcpy(parts, &x, sizeof(x));
#pragma GCC unroll 2
  for (int width = kLanes / 8; width >= 1; width /= 2) {
#pragma GCC unroll 2
    for (int i = 0; i < width; ++i) parts[i] += parts[i + width];
  }
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}
EARSHOT_INLINE float Largest(FloatVector x) {
  float largest = x[0];
  for (int i = 1; i < kLanes; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

EARSHOT_INLINE int32_t Smallest(IntVector x) {
  using Half = int32_t __attribute__((vector_size(kLanes * 2)));
  Half halves[2];
  __builtin_memcpy(halves, &x, sizeof(x));
  const Half least = halves[1] < halves[0] ? halves[1] : halves[0];
  int32_t smallest = least[0];
  for (int i = 1; i < kLanes / 2; ++i) smallest = least[i] < smallest ? least[i] : smallest;
  return smallest;
}

// 2^f for f in [-1/2, 1/2], the polynomials of least relative error: 8e-8 for floats, 8e-5 where what comes of it is
// rounded to bf16 (2e-3).
template <bool kPrecise>
EARSHOT_INLINE FloatVector Exp2Fraction(FloatVector f) {
  if (kPrecise)
    return ((((0.0013276472f * f + 0.00967554133f) * f + 0.0555071327f) * f + 0.240221197f) * f + 0.693146967f) * f +
           1.00000007f;
  return ((0.0551716691f * f + 0.242611122f) * f + 0.693260985f) * f + 0.999928074f;
}

// 2^x for any x: 0 below -126, huge (without AVX-512: 2^128 at most) above 127.
template <bool kPrecise>
EARSHOT_INLINE FloatVector Exp2(FloatVector x) {
#if defined(__AVX512F__)
  // Under masks of ones: GCC 12 warns of what the plain forms leave undefined.
  const auto in = reinterpret_cast<__m512>(x);
  const auto whole = reinterpret_cast<FloatVector>(
      _mm512_mask_roundscale_ps(in, 0xffff, in, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  // The fraction of minus infinity is no number, which scaled by 2^-infinity is 0: so says the instruction.
  const FloatVector fraction = Exp2Fraction<kPrecise>(x - whole);
  return reinterpret_cast<FloatVector>(
      _mm512_mask_scalef_ps(in, 0xffff, reinterpret_cast<__m512>(fraction), reinterpret_cast<__m512>(whole)));
#else
  constexpr float kLeast = -126, kMost = 127, kRound = 12582912.0f;  // 1.5 2^23: the sum has no bits for a fraction
  const FloatVector below = x > kMost ? Broadcast(kMost) : x;        // what is no number stays none
  const FloatVector clamped = below < kLeast ? Broadcast(kLeast) : below;
  const FloatVector shifted = clamped + kRound;
  const FloatVector fraction = Exp2Fraction<kPrecise>(clamped - (shifted - kRound));
  const IntVector bits = reinterpret_cast<IntVector>(fraction) + (reinterpret_cast<IntVector>(shifted) << 23);
  return reinterpret_cast<FloatVector>(bits & ~(x <= kLeast));
#endif
}

#if defined(__AVX512F__)
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
#endif

// The natural log of positive, normal numbers, as in the front end's frame kernels: x = 2^e m with m in
// [sqrt(1/2), sqrt(2)), log(m) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = (m - 1) / (m + 1), |s| < 0.172.
EARSHOT_INLINE FloatVector Log(FloatVector x) {
  constexpr int32_t kSqrtHalf = 0x3f3504f3;  // its bits
  const auto bits = reinterpret_cast<IntVector>(x);
  const IntVector exponent = (bits - kSqrtHalf) >> 23;
  const auto m = reinterpret_cast<FloatVector>(bits - (exponent << 23));
  const FloatVector s = (m - 1.0f) / (m + 1.0f), z = s * s;
  const FloatVector tail = z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9))));
  const FloatVector e = __builtin_convertvector(exponent, FloatVector);
  return e * kLn2 + (s * 2.0f + s * tail);
}

template <int... kIndex>
EARSHOT_INLINE FloatVector InterleaveLow(FloatVector a, FloatVector b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kIndex / 2 + kIndex % 2 * kLanes)...);
}
template <int... kIndex>
EARSHOT_INLINE FloatVector InterleaveHigh(FloatVector a, FloatVector b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kLanes / 2 + kIndex / 2 + kIndex % 2 * kLanes)...);
}
// rows[i][j] <-> rows[j][i], by log2(kLanes) perfect shuffles.
EARSHOT_INLINE void Transpose(FloatVector (&rows)[kLanes]) {
  constexpr std::make_integer_sequence<int, kLanes> kSequence{};
#pragma GCC unroll 4
  for (int width = 1; width < kLanes; width *= 2) {
    FloatVector shuffled[kLanes];
#pragma GCC unroll 8
    for (std::ptrdiff_t i = 0; i < kLanes / 2; ++i) {
      shuffled[2 * i] = InterleaveLow(rows[i], rows[i + kLanes / 2], kSequence);
      shuffled[2 * i + 1] = InterleaveHigh(rows[i], rows[i + kLanes / 2], kSequence);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = shuffled[i];
  }
}

// Lane i: the sum of rows[i]. Each step adds halves of vectors and interleaves the rows of two.
EARSHOT_INLINE FloatVector SumRows(const FloatVector (&rows)[kLanes]) {
  constexpr std::make_integer_sequence<int, kLanes> kSequence{};
  FloatVector sums[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) sums[i] = rows[i];
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (std::ptrdiff_t i = 0; i < half; ++i)
      sums[i] = InterleaveLow(sums[i], sums[i + half], kSequence) + InterleaveHigh(sums[i], sums[i + half], kSequence);
  }
  return sums[0];
}

// One of the arrays of AttentionScratch after the other.
class Arena {
 public:
  explicit Arena(void* data) : data_(static_cast<char*>(data)) {}
  template <class T>
  T* Take(int64_t count) {
    T* result = reinterpret_cast<T*>(data_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return result;
  }
  int64_t used() const { return used_; }

 private:
  char* data_;
  int64_t used_ = 0;
};

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
