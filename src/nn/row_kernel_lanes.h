// The one source of the row kernels; see row_kernel.h. Included by row_kernel_{baseline,avx2,avx512,avx512bf16}.cc
// alone, each after defining
//
//   EARSHOT_KERNEL_LANES       channels at a time, a power of two up to 16
//   EARSHOT_KERNEL_NAMESPACE   a name of its own for everything here
//
// Everything but the table of functions is local to the file, so that no code compiled for one CPU is taken by the
// linker for another; row_kernel_test.cc holds us to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/nn/row_kernel.h"
#include "src/nn/row_kernel_vectors.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {
namespace {

template <class T>
constexpr bool kIsNarrow = sizeof(T) < sizeof(float);

// Rounds to [-127, 127] by the largest of the row; returns what one step is.
float Quantize(const float* row, int64_t dim, int8_t* out) {
  Float most{};
  ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
    const Float x = Load(row + c, count);
    most = Max(most, Max(x, -x));
  });
  const float largest = MaxOf(most);
  const float factor = largest > 0 ? 127.0F / largest : 0.0F;
  ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
    const Float shifted = Load(row + c, count) * factor + 12582912.0F;
    StoreVector(ToBytes(reinterpret_cast<Int>(shifted) - 0x4b400000), out + c, count);
  });
  return largest / 127.0F;
}

// out = f((row - mean) / deviation weight + bias); total: the sum of the row. Returns the sum of what it wrote.
template <RowFunction kFunction, class T>
EARSHOT_INLINE inline float NormRow(const float* row, int64_t dim, const RowNorm& norm, float total, T* out) {
  const float mean = total / static_cast<float>(dim);
  Float squares{};
  ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
    Float d = Load(row + c, count) - mean;
    if (count < kLanes) {
      float values[kLanes];
      __builtin_memcpy(values, &d, sizeof(d));
      d = Load(values, count);
    }
    squares += d * d;
  });
  const float variance = SumOf(squares) / static_cast<float>(dim);
  const float scale = 1.0F / __builtin_sqrtf(variance + norm.eps);
  const float offset = -mean * scale;
  Float sum{};
  ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
    const Float z = (Load(row + c, count) * scale + offset) * Load(norm.weight + c, count) + Load(norm.bias + c, count);
    const Float y = Apply<kFunction, kIsNarrow<T>>(z);
    sum += y;  // the lanes behind the row hold f(offset 0 + 0)
    Store(y, out + c, count);
  });
  return SumOf(sum);
}

EARSHOT_INLINE inline float SumRow(const float* row, int64_t dim) {
  Float sum{};
  ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE { sum += Load(row + c, count); });
  return SumOf(sum);
}

// out[t] = f(row), or f(norm(row)); `row` may be overwritten.
template <RowFunction kFunction>
inline void WriteRow(float* row, int64_t dim, const RowNorm& norm, float total, const RowTarget& out, int64_t t) {
  const auto to = [&]<class T>(T* p) EARSHOT_INLINE {
    if (norm.weight != nullptr) {
      NormRow<kFunction>(row, dim, norm, total, p);
      return;
    }
    ForChannels(dim, [&](int64_t c, int count)
                         EARSHOT_INLINE { Store(Apply<kFunction, kIsNarrow<T>>(Load(row + c, count)), p + c, count); });
  };
  switch (out.type) {
    case RowType::kFloat: to(static_cast<float*>(out.data) + t * dim); break;
    case RowType::kBFloat16: to(static_cast<uint16_t*>(out.data) + t * dim); break;
    case RowType::kInt8:
      to(row);
      out.scale[t] = Quantize(row, dim, static_cast<int8_t*>(out.data) + t * dim);
      break;
  }
}

// factor x (the value of row t of the source, channels [first, first + dim) of `width`): f(c, count, value).
template <class S, class F>
EARSHOT_INLINE inline void ReadRow(const RowSource& in, int64_t t, int64_t dim, float factor, const F& f) {
  const S* data = static_cast<const S*>(in.data) + t * dim;
  const float scale = in.scale == nullptr ? factor : factor * in.scale[t];
  if (in.bias == nullptr) {
    ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE { f(c, count, Load(data + c, count) * scale); });
  } else {
    ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
      f(c, count, Load(data + c, count) * scale + Load(in.bias + c, count) * factor);
    });
  }
}

template <class S>
void AddNormRows(const AddNormArguments& a, int64_t begin, int64_t end, float* scratch) {
  const int64_t dim = a.dim;
  for (int64_t t = begin; t < end; ++t) {
    float* row = a.sum != nullptr ? a.sum + t * dim : scratch;
    const float* x = a.x + t * dim;
    Float sum{};
    if (a.y.data != nullptr) {
      const float factor = a.gate != nullptr ? a.alpha * a.gate[t] : a.alpha;
      ReadRow<S>(a.y, t, dim, factor, [&](int64_t c, int count, Float y) EARSHOT_INLINE {
        const Float s = Load(x + c, count) + y;
        sum += s;
        Store(s, row + c, count);
      });
    } else {
      ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
        const Float s = Load(x + c, count);
        sum += s;
        Store(s, row + c, count);
      });
    }
    float total = SumOf(sum);
    if (a.sum_norm.weight != nullptr) total = NormRow<RowFunction::kNone>(row, dim, a.sum_norm, total, row);
    if (a.out.data == nullptr) continue;
    if (a.sum != nullptr && a.out.type == RowType::kInt8) {  // what is quantised must not overwrite the sum
      __builtin_memcpy(scratch, row, static_cast<std::size_t>(dim) * sizeof(float));
      row = scratch;
    }
    WriteRow<RowFunction::kNone>(row, dim, a.norm, total, a.out, t);
  }
}

void AddNorm(const AddNormArguments& a, int64_t begin, int64_t end, float* scratch) {
  if (a.y.type == RowType::kBFloat16) {
    AddNormRows<uint16_t>(a, begin, end, scratch);
  } else {
    AddNormRows<float>(a, begin, end, scratch);
  }
}

template <RowFunction kFunction, class S>
void MapRows(const MapArguments& a, int64_t begin, int64_t end, float* scratch) {
  const int64_t dim = a.dim;
  const auto to = [&]<class T>(int64_t t, T* p) EARSHOT_INLINE {
    ReadRow<S>(a.in, t, dim, 1.0F, [&](int64_t c, int count, Float x) EARSHOT_INLINE {
      Store(Apply<kFunction, kIsNarrow<T>>(x), p + c, count);
    });
  };
  for (int64_t t = begin; t < end; ++t) {
    switch (a.out.type) {
      case RowType::kFloat: to(t, static_cast<float*>(a.out.data) + t * dim); break;
      case RowType::kBFloat16: to(t, static_cast<uint16_t*>(a.out.data) + t * dim); break;
      case RowType::kInt8:
        ReadRow<S>(a.in, t, dim, 1.0F, [&](int64_t c, int count, Float x) EARSHOT_INLINE {
          Store(Apply<kFunction, true>(x), scratch + c, count);
        });
        a.out.scale[t] = Quantize(scratch, dim, static_cast<int8_t*>(a.out.data) + t * dim);
        break;
    }
  }
}

template <class S>
void MapFrom(const MapArguments& a, int64_t begin, int64_t end, float* scratch) {
  switch (a.function) {
    case RowFunction::kNone: return MapRows<RowFunction::kNone, S>(a, begin, end, scratch);
    case RowFunction::kSilu: return MapRows<RowFunction::kSilu, S>(a, begin, end, scratch);
    case RowFunction::kRelu: return MapRows<RowFunction::kRelu, S>(a, begin, end, scratch);
  }
}

void Map(const MapArguments& a, int64_t begin, int64_t end, float* scratch) {
  if (a.in.type == RowType::kBFloat16) {
    MapFrom<uint16_t>(a, begin, end, scratch);
  } else {
    MapFrom<float>(a, begin, end, scratch);
  }
}

template <class S>
void GluRows(const GluArguments& a, int64_t begin, int64_t end) {
  const int64_t dim = a.dim;
  for (int64_t t = begin; t < end; ++t) {
    const S* data = static_cast<const S*>(a.in.data) + t * 2 * dim;
    const float scale = a.in.scale == nullptr ? 1.0F : a.in.scale[t];
    const float mask = a.mask == nullptr ? 1.0F : a.mask[t];
    ForChannels(dim, [&](int64_t c, int count) EARSHOT_INLINE {
      Float x = Load(data + c, count) * scale, gate = Load(data + dim + c, count) * scale;
      if (a.in.bias != nullptr) {
        x += Load(a.in.bias + c, count);
        gate += Load(a.in.bias + dim + c, count);
      }
      Store(mask * x * Sigmoid<kIsNarrow<S>>(gate), a.out + t * dim + c, count);
    });
  }
}

void Glu(const GluArguments& a, int64_t begin, int64_t end) {
  if (a.in.type == RowType::kBFloat16) {
    GluRows<uint16_t>(a, begin, end);
  } else {
    GluRows<float>(a, begin, end);
  }
}

// Channels c ... c + count - 1 of the `frames` frames from `frame` on -> tile: (frames, stride).
EARSHOT_INLINE inline void DepthwiseTile(const DepthwiseArguments& a, int64_t frame, int64_t frames, int64_t limit,
                                         int64_t c, int count, float* tile, int64_t stride) {
  const int64_t block = c / kDepthwiseChannels, taps = a.kernel + 2 * (kDepthwiseTile - 1);
  const float* weight = a.weight + block * taps * kDepthwiseChannels + c % kDepthwiseChannels;
  Float sums[kDepthwiseTile];
  const Float bias = a.bias == nullptr ? Float{} : Load(a.bias + c, count);
#pragma GCC unroll 8
  for (int r = 0; r < kDepthwiseTile; ++r) sums[r] = bias;
  // Input j is tap j - (frame + r) + before of frame r, whose weight stands kDepthwiseTile - 1 further on.
  const int64_t first = frame - a.before;
  const int64_t begin = first > 0 ? first : 0;
  const int64_t behind = first + frames - 1 + a.kernel, end = behind < limit ? behind : limit;
  for (int64_t j = begin; j < end; ++j) {
    const Float x = Load(a.in + j * a.dim + c, count);
    const float* w = weight + (j - first) * kDepthwiseChannels;
#pragma GCC unroll 8
    for (int r = 0; r < kDepthwiseTile; ++r) sums[r] += x * Load(w + (kDepthwiseTile - 1 - r) * kDepthwiseChannels);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kDepthwiseTile; ++r)
    if (r < frames) Store(sums[r], tile + r * stride + c, count);
}

void Depthwise(const DepthwiseArguments& a, int64_t begin, int64_t end, float* scratch) {
  const int64_t stride = (a.dim + 15) / 16 * 16;
  for (int64_t t = begin; t < end;) {
    // A few tiles for each group of channels, whose weights stay in the cache for as long.
    const int64_t frames = end - t < kDepthwiseFrames ? end - t : kDepthwiseFrames;
    ForChannels(a.dim, [&](int64_t c, int count) EARSHOT_INLINE {
      for (int64_t r = 0; r < frames;) {
        const int64_t frame = a.first + t + r;
        int64_t limit = a.rows, size = frames - r < kDepthwiseTile ? frames - r : kDepthwiseTile;
        if (a.ends != nullptr) {
          const int64_t* end = a.ends + t + r;
          limit = *end;
          int64_t same = 1;
          while (same < size && end[same] == limit) ++same;
          size = same;
        }
        DepthwiseTile(a, frame, size, limit, c, count, scratch + r * stride, stride);
        r += size;
      }
    });
    for (int64_t r = 0; r < frames; ++r) {
      float* row = scratch + r * stride;
      if (a.norm.weight == nullptr) {
        WriteRow<RowFunction::kNone>(row, a.dim, a.norm, 0, a.out, t + r);
      } else {
        WriteRow<RowFunction::kSilu>(row, a.dim, a.norm, SumRow(row, a.dim), a.out, t + r);
      }
    }
    t += frames;
  }
}

template <class S>
void RotateRows(const RotateArguments& a, int64_t begin, int64_t end) {
  const int64_t half = a.head_dim / 2, width = a.heads * a.head_dim;
  const bool plain = a.in.scale == nullptr && a.in.bias == nullptr;
  for (int64_t t = begin; t < end; ++t) {
    const S* in = static_cast<const S*>(a.in.data) + t * width;
    S* out = static_cast<S*>(a.out.data) + t * width;
    const float* cos = a.cos + t % a.frames * half;
    const float* sin = a.sin + t % a.frames * half;
    const float scale = a.in.scale == nullptr ? 1.0F : a.in.scale[t];
    const auto value = [&](int64_t c, int count) EARSHOT_INLINE {
      const Float x = Load(in + c, count) * scale;
      return a.in.bias == nullptr ? x : x + Load(a.in.bias + c, count);
    };
    for (int64_t first = 0; first < a.rotated * a.head_dim; first += a.head_dim) {
      ForChannels(half, [&](int64_t c, int count) EARSHOT_INLINE {
        const Float x = value(first + c, count), y = value(first + half + c, count);
        const Float u = Load(cos + c, count), v = Load(sin + c, count);
        Store(x * u - y * v, out + first + c, count);
        Store(y * u + x * v, out + first + half + c, count);
      });
    }
    if (plain && in == out) continue;
    const int64_t rest = a.rotated * a.head_dim;
    ForChannels(width - rest,
                [&](int64_t c, int count) EARSHOT_INLINE { Store(value(rest + c, count), out + rest + c, count); });
  }
}

void Rotate(const RotateArguments& a, int64_t begin, int64_t end) {
  if (a.in.type == RowType::kBFloat16) {
    RotateRows<uint16_t>(a, begin, end);
  } else {
    RotateRows<float>(a, begin, end);
  }
}

void FirstConvolution(const FirstConvolutionArguments& a, int64_t begin, int64_t end) {
  const int64_t bins_out = (a.bins + 1) / 2;
  for (int64_t t = begin; t < end; ++t) {
    const float* in = a.in + 2 * t * a.bins;
    float* out = a.out + t * bins_out * a.channels;
    ForChannels(a.channels, [&](int64_t c, int count) EARSHOT_INLINE {
      Float w[9];
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) w[k] = Load(a.weight + k * a.channels + c, count);
      const Float bias = Load(a.bias + c, count);
      for (int64_t f = 0; f < bins_out; ++f) {
        Float sum = bias;
        const float* x = in + 2 * f - 1;
        if (f > 0 && 2 * f + 1 < a.bins) {
#pragma GCC unroll 9
          for (int k = 0; k < 9; ++k) sum += w[k] * x[k / 3 * a.bins + k % 3];
        } else {
          for (int k = 0; k < 9; ++k) {
            const int64_t bin = 2 * f - 1 + k % 3;
            if (bin >= 0 && bin < a.bins) sum += w[k] * x[k / 3 * a.bins + k % 3];
          }
        }
        Store(Max(sum, Float{}), out + f * a.channels + c, count);
      }
    });
  }
}

template <class S, class T>
void DepthwiseStrideRows(const DepthwiseStrideArguments& a, int64_t begin, int64_t end) {
  const int64_t bins_out = (a.bins + 1) / 2, channels = a.channels, line = a.bins * channels;
  for (int64_t t = begin; t < end; ++t) {
    const S* in = static_cast<const S*>(a.in.data) + 2 * t * line;
    T* out = static_cast<T*>(a.out.data) + t * bins_out * channels;
    ForChannels(channels, [&](int64_t c, int count) EARSHOT_INLINE {
      Float w[9];
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) w[k] = Load(a.weight + k * channels + c, count);
      const Float bias = a.bias == nullptr ? Float{} : Load(a.bias + c, count);
      for (int64_t f = 0; f < bins_out; ++f) {
        Float sum = bias;
        const S* x = in + (2 * f - 1) * channels + c;
        if (f > 0 && 2 * f + 1 < a.bins) {
#pragma GCC unroll 9
          for (int k = 0; k < 9; ++k) sum += w[k] * Load(x + k / 3 * line + k % 3 * channels, count);
        } else {
          for (int k = 0; k < 9; ++k) {
            const int64_t bin = 2 * f - 1 + k % 3;
            if (bin >= 0 && bin < a.bins) sum += w[k] * Load(x + k / 3 * line + k % 3 * channels, count);
          }
        }
        Store(sum, out + f * channels + c, count);
      }
    });
  }
}

void DepthwiseStride(const DepthwiseStrideArguments& a, int64_t begin, int64_t end) {
  const bool from = a.in.type == RowType::kBFloat16, to = a.out.type == RowType::kBFloat16;
  if (from && to) return DepthwiseStrideRows<uint16_t, uint16_t>(a, begin, end);
  if (from) return DepthwiseStrideRows<uint16_t, float>(a, begin, end);
  if (to) return DepthwiseStrideRows<float, uint16_t>(a, begin, end);
  DepthwiseStrideRows<float, float>(a, begin, end);
}

}  // namespace

extern const RowKernels kKernels;
const RowKernels kKernels = {AddNorm, Map, Glu, Depthwise, Rotate, FirstConvolution, DepthwiseStride};

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
