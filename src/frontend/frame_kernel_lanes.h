// The one source of the frame kernels; see frame_kernel.h. Included by frame_kernel_{baseline,avx2,avx512}.cc alone,
// each after defining
//
//   EARSHOT_KERNEL_LANES       frames at a time, a power of two
//   EARSHOT_KERNEL_NAMESPACE   a name of its own for everything here
//
// Every function and type below lives in that namespace, and the standard templates are instantiated with types of
// it, so that no code compiled for one CPU is taken by the linker for another. The one exception, a vector of sizes
// inside KissFFT, is declared extern. frame_kernel_test.cc holds us to it.
#include <kissfft/kissfft.hh>

#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "src/frontend/frame_kernel.h"

extern template class std::vector<std::size_t>;  // instantiated in frame_kernel.cc

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

constexpr int kLanes = EARSHOT_KERNEL_LANES;

using FloatVector = float __attribute__((vector_size(kLanes * sizeof(float))));
using IntVector = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));
using UnalignedVector = float __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

// One value of each of kLanes frames, with the operators that KissFFT and std::complex ask of a number.
struct Lanes {
  FloatVector v;

  Lanes() = default;
  Lanes(FloatVector vector) : v(vector) {}           // NOLINT(google-explicit-constructor)
  Lanes(float x) : v(FloatVector{} + x) {}           // NOLINT(google-explicit-constructor)
  Lanes(double x) : Lanes(static_cast<float>(x)) {}  // NOLINT(google-explicit-constructor)
  Lanes(int x) : Lanes(static_cast<float>(x)) {}     // NOLINT(google-explicit-constructor)
  // KissFFT computes its angles with scalars of this type, all lanes the same.
  operator double() const { return static_cast<double>(v[0]); }  // NOLINT(google-explicit-constructor)

  Lanes& operator+=(const Lanes& b) {
    v += b.v;
    return *this;
  }
  Lanes& operator-=(const Lanes& b) {
    v -= b.v;
    return *this;
  }
  Lanes& operator*=(const Lanes& b) {
    v *= b.v;
    return *this;
  }
  friend Lanes operator+(const Lanes& a, const Lanes& b) { return a.v + b.v; }
  friend Lanes operator-(const Lanes& a, const Lanes& b) { return a.v - b.v; }
  friend Lanes operator*(const Lanes& a, const Lanes& b) { return a.v * b.v; }
  friend Lanes operator/(const Lanes& a, const Lanes& b) { return a.v / b.v; }
  friend Lanes operator-(const Lanes& a) { return -a.v; }
  friend Lanes operator*(std::size_t a, const Lanes& b) { return Lanes(static_cast<float>(a)) * b; }
};

// Found by std::exp(std::complex<Lanes>), with which KissFFT fills its table of twiddle factors; so named for it.
// NOLINTBEGIN(readability-identifier-naming)
inline Lanes exp(const Lanes& x) { return ::exp(static_cast<double>(x)); }
inline Lanes cos(const Lanes& x) { return ::cos(static_cast<double>(x)); }
inline Lanes sin(const Lanes& x) { return ::sin(static_cast<double>(x)); }
// NOLINTEND(readability-identifier-naming)

// The natural log of positive, normal numbers. x = 2^e m with m in [sqrt(1/2), sqrt(2)), and
// log(m) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = (m - 1) / (m + 1), |s| < 0.172: what is left out after s^9 is
// below 1e-9 of the result.
inline FloatVector Log(FloatVector x) {
  constexpr int32_t kSqrtHalf = 0x3f3504f3;  // its bits
  const auto bits = reinterpret_cast<IntVector>(x);
  const IntVector exponent = (bits - kSqrtHalf) >> 23;
  const auto m = reinterpret_cast<FloatVector>(bits - (exponent << 23));
  const FloatVector s = (m - 1.0f) / (m + 1.0f);
  const FloatVector z = s * s;
  const FloatVector tail = z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9))));
  // log(2) in two parts, the first short enough that its product with e is exact.
  const FloatVector e = __builtin_convertvector(exponent, FloatVector);
  return e * 0.693359375f + (s * 2.0f + (s * tail + e * -2.12194440e-4f));
}

template <int... kIndex>
inline FloatVector InterleaveLow(FloatVector a, FloatVector b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kIndex / 2 + kIndex % 2 * kLanes)...);
}

template <int... kIndex>
inline FloatVector InterleaveHigh(FloatVector a, FloatVector b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kLanes / 2 + kIndex / 2 + kIndex % 2 * kLanes)...);
}

// rows[i][j] <-> rows[j][i], by log2(kLanes) perfect shuffles.
inline void Transpose(FloatVector (&rows)[kLanes]) {
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

inline FloatVector Load(const float* p) { return *reinterpret_cast<const UnalignedVector*>(p); }
inline void Store(FloatVector x, float* p) { *reinterpret_cast<UnalignedVector*>(p) = x; }

constexpr int RoundUp(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Memory for vectors, aligned to them.
class Scratch {
 public:
  explicit Scratch(std::size_t count)
      : data_(static_cast<Lanes*>(::operator new(count * sizeof(Lanes), std::align_val_t(sizeof(Lanes))))) {
    std::memset(static_cast<void*>(data_), 0, count * sizeof(Lanes));
  }
  ~Scratch() { ::operator delete(data_, std::align_val_t(sizeof(Lanes))); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Lanes* data() const { return data_; }

 private:
  Lanes* data_;
};

using Complex = std::complex<Lanes>;

class LanesKernel final : public FrameKernel {
 public:
  explicit LanesKernel(const FrameKernelSpec& spec);
  void Compute(const float* samples, int64_t shift, int64_t num_frames, const MelFilterView& mel,
               float* out) const override;

 private:
  void LoadFrames(const float* const* frames, Lanes* samples) const;
  Lanes CenterAndWindow(Lanes* samples, Lanes* windowed) const;
  void PowerSpectrum(const Complex* half, Lanes* power) const;
  void LogMel(const Lanes* power, const MelFilterView& mel, Lanes* log_mel) const;
  void Transform(const Lanes* log_mel, Lanes* values) const;
  void StoreFrames(const Lanes* values, int count, float* out) const;

  FrameKernelSpec spec_;
  int half_;  // fft_size / 2, the size of the complex transform
  kissfft<Lanes> fft_;
  Scratch window_;    // (L) floats, halved: see PowerSpectrum
  Scratch twiddles_;  // (half / 2 + 1, 2) floats: cos and sin of 2 pi k / fft_size
};

inline LanesKernel::LanesKernel(const FrameKernelSpec& spec)
    : spec_(spec),
      half_(spec.fft_size / 2),
      fft_(static_cast<std::size_t>(half_), false),
      window_(static_cast<std::size_t>(RoundUp(spec.frame_length) / kLanes)),
      twiddles_(static_cast<std::size_t>(RoundUp(half_ + 2) / kLanes)) {
  auto* window = reinterpret_cast<float*>(window_.data());
  for (int n = 0; n < spec.frame_length; ++n) window[n] = 0.5f * spec.window[n];
  auto* twiddles = reinterpret_cast<float*>(twiddles_.data());
  for (std::ptrdiff_t k = 0; k <= half_ / 2; ++k) {
    const double angle = 2 * M_PI * static_cast<double>(k) / spec.fft_size;
    twiddles[2 * k] = static_cast<float>(::cos(angle));
    twiddles[2 * k + 1] = static_cast<float>(::sin(angle));
  }
}

// kLanes frames side by side -> samples: (L) vectors.
inline void LanesKernel::LoadFrames(const float* const* frames, Lanes* samples) const {
  const int length = spec_.frame_length;
  int n = 0;
  for (; n + kLanes <= length; n += kLanes) {
    FloatVector rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) rows[lane] = Load(frames[lane] + n);
    Transpose(rows);
    for (int i = 0; i < kLanes; ++i) samples[n + i].v = rows[i];
  }
  for (; n < length; ++n)
    for (int lane = 0; lane < kLanes; ++lane) samples[n].v[lane] = frames[lane][n];
}

// Takes the mean away in place; windowed[n] = window[n] (x[n] - preemphasis x[n - 1]). Returns the energy of x.
inline Lanes LanesKernel::CenterAndWindow(Lanes* samples, Lanes* windowed) const {
  const int length = spec_.frame_length;
  FloatVector mean = {};
  if (spec_.remove_dc_offset) {
    FloatVector sums[4] = {};
    int n = 0;
    for (; n + 4 <= length; n += 4)
      for (int i = 0; i < 4; ++i) sums[i] += samples[n + i].v;
    for (; n < length; ++n) sums[0] += samples[n].v;
    mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(length);
  }
  FloatVector energy = {};
  if (spec_.use_energy) {
    for (int n = 0; n < length; ++n) {
      const FloatVector x = samples[n].v - mean;
      energy += x * x;
    }
  }
  const auto* window = reinterpret_cast<const float*>(window_.data());
  const float preemphasis = spec_.preemphasis;
  FloatVector previous = samples[0].v - mean;  // the sample before the first is taken to be like it
  for (int n = 0; n < length; ++n) {
    const FloatVector x = samples[n].v - mean;
    windowed[n].v = (x - previous * preemphasis) * window[n];
    previous = x;
  }
  return energy;
}

// half: Z, the transform of x[2n] + i x[2n + 1], of length H. power[k] = |X[k]|^2 for k < H, with
//   X[k] = E + W, X[H - k] = conj(E - W),  E = (Z[k] + conj Z[H - k]) / 2,  W = -i e^(-i t) (Z[k] - conj Z[H - k]) / 2,
// t = 2 pi k / fft_size. The window is halved, so the divisions by 2 are done.
inline void LanesKernel::PowerSpectrum(const Complex* half, Lanes* power) const {
  const auto* z = reinterpret_cast<const Lanes*>(half);
  const auto* twiddles = reinterpret_cast<const float*>(twiddles_.data());
  const FloatVector dc = 2.0f * (z[0].v + z[1].v);
  power[0].v = dc * dc;
  for (std::ptrdiff_t k = 1; k <= half_ / 2; ++k) {
    const std::ptrdiff_t mirrored = half_ - k;
    const FloatVector a_real = z[2 * k].v, a_imag = z[2 * k + 1].v;
    const FloatVector b_real = z[2 * mirrored].v, b_imag = z[2 * mirrored + 1].v;
    const float c = twiddles[2 * k], s = twiddles[2 * k + 1];
    const FloatVector even_real = a_real + b_real, even_imag = a_imag - b_imag;
    const FloatVector odd_real = a_real - b_real, odd_imag = a_imag + b_imag;
    const FloatVector w_real = odd_imag * c - odd_real * s, w_imag = -(odd_real * c + odd_imag * s);
    const FloatVector low_real = even_real + w_real, low_imag = even_imag + w_imag;
    const FloatVector high_real = even_real - w_real, high_imag = even_imag - w_imag;
    power[k].v = low_real * low_real + low_imag * low_imag;
    power[mirrored].v = high_real * high_real + high_imag * high_imag;
  }
}

inline void LanesKernel::LogMel(const Lanes* power, const MelFilterView& mel, Lanes* log_mel) const {
  const FloatVector floor = FloatVector{} + spec_.log_floor;
  for (int m = 0; m < spec_.num_mel_bins; ++m) {
    const Lanes* in = power + mel.first_bins[m];
    const float* weights = mel.weights + mel.offsets[m];
    const int width = mel.offsets[m + 1] - mel.offsets[m];
    FloatVector sum = {};
    for (int i = 0; i < width; ++i) sum += in[i].v * weights[i];
    sum += spec_.log_offset;
    log_mel[m].v = Log(sum > floor ? sum : floor);
  }
}

inline void LanesKernel::Transform(const Lanes* log_mel, Lanes* values) const {
  for (int d = 0; d < spec_.dim; ++d) {
    const float* row = spec_.transform + static_cast<std::ptrdiff_t>(d) * spec_.num_mel_bins;
    FloatVector sum = {};
    for (int m = 0; m < spec_.num_mel_bins; ++m) sum += log_mel[m].v * row[m];
    values[d].v = sum;
  }
}

// values: (C) vectors, room for C rounded up -> out: (count, C).
inline void LanesKernel::StoreFrames(const Lanes* values, int count, float* out) const {
  const int dim = spec_.dim;
  for (int c = 0; c < dim; c += kLanes) {
    FloatVector rows[kLanes];
    for (int i = 0; i < kLanes; ++i) rows[i] = values[c + i].v;
    Transpose(rows);
    const int width = dim - c < kLanes ? dim - c : kLanes;
    for (int lane = 0; lane < count; ++lane) {
      float* to = out + static_cast<std::ptrdiff_t>(lane) * dim + c;
      if (width == kLanes) {
        Store(rows[lane], to);
      } else {
        for (int i = 0; i < width; ++i) to[i] = rows[lane][i];
      }
    }
  }
}

inline void LanesKernel::Compute(const float* samples, int64_t shift, int64_t num_frames, const MelFilterView& mel,
                                 float* out) const {
  const auto fft_size = static_cast<std::size_t>(spec_.fft_size);
  const std::size_t mel_size = static_cast<std::size_t>(RoundUp(spec_.num_mel_bins));
  Scratch scratch(2 * fft_size + mel_size + static_cast<std::size_t>(RoundUp(spec_.dim)));
  // Two areas take turns, to stay in the first-level cache: samples in a, windowed in b (zeros behind L stay),
  // the transform in a, the power in b (which is shorter than L), mel energies behind.
  Lanes* a = scratch.data();
  Lanes* b = a + fft_size;
  Lanes* log_mel = b + fft_size;
  Lanes* transformed = log_mel + mel_size;
  for (int64_t first = 0; first < num_frames; first += kLanes) {
    const int count = num_frames - first < kLanes ? static_cast<int>(num_frames - first) : kLanes;
    const float* frames[kLanes];
    // Lanes that are left over repeat the last frame.
    for (int lane = 0; lane < kLanes; ++lane)
      frames[lane] = samples + (first + (lane < count ? lane : count - 1)) * shift;
    LoadFrames(frames, a);
    const Lanes energy = CenterAndWindow(a, b);
    fft_.transform(reinterpret_cast<const Complex*>(b), reinterpret_cast<Complex*>(a));
    PowerSpectrum(reinterpret_cast<const Complex*>(a), b);
    LogMel(b, mel, log_mel);
    Lanes* values = log_mel;
    if (spec_.transform != nullptr) {
      Transform(log_mel, transformed);
      values = transformed;
    }
    if (spec_.use_energy) {
      const FloatVector scaled = energy.v * spec_.energy_scale, floor = FloatVector{} + spec_.energy_floor;
      values[0].v = Log(scaled > floor ? scaled : floor);
    }
    StoreFrames(values, count, out + first * spec_.dim);
  }
}

// Each file that includes this has them in a namespace of its own.
// NOLINTBEGIN(misc-definitions-in-headers)
FrameKernel* Make(const FrameKernelSpec& spec) { return new LanesKernel(spec); }

void LogArray(const float* x, int count, float* out) {
  for (int i = 0; i < count; i += kLanes) {
    FloatVector lanes = FloatVector{} + 1.0f;
    const int width = count - i < kLanes ? count - i : kLanes;
    std::memcpy(&lanes, x + i, static_cast<std::size_t>(width) * sizeof(float));
    lanes = Log(lanes);
    std::memcpy(out + i, &lanes, static_cast<std::size_t>(width) * sizeof(float));
  }
}
// NOLINTEND(misc-definitions-in-headers)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
