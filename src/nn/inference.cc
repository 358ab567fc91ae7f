#include "src/nn/inference.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include "src/base/error.h"
#include "src/nn/rounded_rows.h"
#include "src/nn/row_kernel.h"

namespace earshot {
namespace {

using torch::ScalarType;
using torch::Tensor;

const RowKernels& Kernels() { return GetRowKernels(ChooseSimdLevel()); }

RowType TypeOf(ScalarType type) {
  switch (type) {
    case torch::kFloat: return RowType::kFloat;
    case torch::kBFloat16: return RowType::kBFloat16;
    case torch::kChar: return RowType::kInt8;
    default: EARSHOT_CHECK(false, "rows of {}", c10::toString(type));
  }
}

const float* FloatsOf(const Tensor& x) {
  if (!x.defined()) return nullptr;
  EARSHOT_CHECK(x.scalar_type() == torch::kFloat && x.is_contiguous(), "expected contiguous floats");
  return x.const_data_ptr<float>();
}

RowSource SourceOf(const Product& x) {
  EARSHOT_CHECK(x.values.is_contiguous(), "rows that are not contiguous");
  return {.data = x.values.const_data_ptr(),
          .type = TypeOf(x.values.scalar_type()),
          .scale = FloatsOf(x.scale),
          .bias = FloatsOf(x.bias)};
}

RowTarget TargetOf(const Activation& x) {
  return {.data = x.values.data_ptr(),
          .type = TypeOf(x.values.scalar_type()),
          .scale = x.scale.defined() ? x.scale.data_ptr<float>() : nullptr};
}

RowNorm NormOf(const torch::nn::LayerNormImpl& norm) {
  return {.weight = FloatsOf(norm.weight), .bias = FloatsOf(norm.bias), .eps = static_cast<float>(norm.options.eps())};
}

// `shape` of `type`, with room for the scales of its rows where it needs them, and behind them rows of zeros for a
// product of rounded height: not what happened to be there, for products may multiply the row behind by zeros, and NaN
// times zero is NaN.
Activation Room(const Tensor& like, std::vector<int64_t> shape, ScalarType type) {
  Activation out;
  const int64_t dim = shape.back(),
                rows = std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>());
  const Tensor all =
      torch::empty({RoundedRows::Of(rows, type == torch::kBFloat16 ? dim : 0), dim}, like.options().dtype(type));
  if (all.size(0) > rows) all.narrow(0, rows, all.size(0) - rows).zero_();
  out.values = all.narrow(0, 0, rows).view(shape);
  shape.pop_back();
  if (type == torch::kChar) out.scale = torch::empty(shape, like.options().dtype(torch::kFloat));
  return out;
}

class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), kAlignment))) {}
  ~Scratch() { ::operator delete(data_, kAlignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  float* data_;
};

// f(begin, end, scratch) over the rows, with at least some 10 us of work for a thread.
template <class F>
void ForRows(int64_t rows, int64_t work_of_a_row, int64_t scratch, const F& f) {
  constexpr int64_t kLeast = 16384;
  const int64_t grain = std::max<int64_t>(1, kLeast / std::max<int64_t>(work_of_a_row, 1));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    const Scratch room(scratch);
    f(begin, end, room.data());
  });
}

int64_t Rows(const Tensor& x) { return x.size(0) * x.size(1); }  // of (N, T, D)

// The sum into `sum` and its norm into `out`, either where it is wanted.
void RunAddNorm(const Residual& r, const RowNorm& sum_norm, float* sum, const RowNorm& norm, const RowTarget& out) {
  AddNormArguments a{.dim = r.x.size(2), .x = FloatsOf(r.x), .alpha = static_cast<float>(r.alpha)};
  if (r.y.values.defined()) a.y = SourceOf(r.y);
  const Tensor gate = r.gate.defined() ? r.gate.contiguous() : Tensor();
  a.gate = FloatsOf(gate);
  a.sum_norm = sum_norm;
  a.sum = sum;
  a.norm = norm;
  a.out = out;
  const auto run = Kernels().add_norm;
  ForRows(Rows(r.x), 4 * a.dim, a.dim,
          [&](int64_t begin, int64_t end, float* scratch) { run(a, begin, end, scratch); });
}

Activation RunMap(RowFunction function, const Product& x, ScalarType type) {
  const int64_t dim = x.values.size(-1);
  Activation out;
  if (type == x.values.scalar_type()) {
    out.values = x.values;
  } else {
    out = Room(x.values, x.values.sizes().vec(), type);
  }
  const MapArguments a{.dim = dim, .function = function, .in = SourceOf(x), .out = TargetOf(out)};
  const auto run = Kernels().map;
  ForRows(dim == 0 ? 0 : x.values.numel() / dim, dim, dim,
          [&](int64_t begin, int64_t end, float* scratch) { run(a, begin, end, scratch); });
  return out;
}

}  // namespace

Tensor Product::Value() const {
  if (!scale.defined() && !bias.defined()) return values;
  return RunMap(RowFunction::kNone, *this, values.scalar_type()).values;
}

bool ForInference(const torch::nn::Module& module, const Tensor& x) {
  return !module.is_training() && !torch::GradMode::is_enabled() && x.is_cpu() && x.scalar_type() == torch::kFloat &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

Activation Convert(const Tensor& x, ScalarType type) {
  if (x.scalar_type() == type) return {.values = x.contiguous()};
  return RunMap(RowFunction::kNone, {.values = x.contiguous()}, type);
}

Activation Normalize(const Tensor& x, const torch::nn::LayerNormImpl& norm, ScalarType type) {
  const Residual residual{.x = x.contiguous()};
  Activation out = Room(x, x.sizes().vec(), type);
  RunAddNorm(residual, {}, nullptr, NormOf(norm), TargetOf(out));
  return out;
}

Tensor Sum(const Residual& residual) {
  Tensor out = torch::empty_like(residual.x);
  RunAddNorm(residual, {}, out.data_ptr<float>(), {}, {});
  return out;
}

Activation SumNorm(const Residual& residual, const torch::nn::LayerNormImpl& norm, ScalarType type) {
  const Tensor& x = residual.x;
  Activation out = Room(x, x.sizes().vec(), type);
  RunAddNorm(residual, {}, x.data_ptr<float>(), NormOf(norm), TargetOf(out));
  return out;
}

Tensor NormalizedSum(const Residual& residual, const torch::nn::LayerNormImpl& norm) {
  Tensor out = torch::empty_like(residual.x);
  RunAddNorm(residual, NormOf(norm), out.data_ptr<float>(), {}, {});
  return out;
}

Activation Silu(const Product& x, ScalarType type) { return RunMap(RowFunction::kSilu, x, type); }
Activation Relu(const Product& x, ScalarType type) { return RunMap(RowFunction::kRelu, x, type); }

Tensor Glu(const Product& x, const Tensor& mask) {
  const int64_t dim = x.values.size(2) / 2;
  const Tensor rows = mask.defined() ? mask.contiguous() : Tensor();
  Tensor out = torch::empty({x.values.size(0), x.values.size(1), dim}, x.values.options().dtype(torch::kFloat));
  const GluArguments a{.dim = dim, .in = SourceOf(x), .mask = FloatsOf(rows), .out = out.data_ptr<float>()};
  const auto run = Kernels().glu;
  ForRows(Rows(x.values), 2 * dim, 0, [&](int64_t begin, int64_t end, float*) { run(a, begin, end); });
  return out;
}

Tensor Rotate(const Product& x, int64_t rotated, const Tensor& cos, const Tensor& sin) {
  RotateArguments a{.rotated = rotated, .head_dim = 2 * cos.size(1), .frames = cos.size(0)};
  a.heads = x.values.size(2) / a.head_dim;
  EARSHOT_CHECK(a.heads * a.head_dim == x.values.size(2) && rotated <= a.heads && cos.sizes() == sin.sizes() &&
                    a.frames == x.values.size(1),
                "{} of the heads of {} channels, {} angles for {} frames", rotated, x.values.size(2), cos.size(0),
                x.values.size(1));
  a.in = SourceOf(x);
  a.cos = FloatsOf(cos);
  a.sin = FloatsOf(sin);
  a.out = TargetOf({.values = x.values});
  const auto run = Kernels().rotate;
  ForRows(Rows(x.values), x.values.size(2), 0, [&](int64_t begin, int64_t end, float*) { run(a, begin, end); });
  return x.values;
}

Tensor PackDepthwise(const Tensor& weight) {
  const Tensor plain = weight.detach().to(torch::kFloat).contiguous();
  const int64_t dim = plain.size(0), kernel = plain.size(2);
  Tensor packed = torch::empty({PackedDepthwiseSize(dim, kernel)});
  PackDepthwise(plain.const_data_ptr<float>(), dim, kernel, packed.data_ptr<float>());
  return packed;
}

Activation DepthwiseNormSilu(const Tensor& x, int64_t first, int64_t num, const DepthwiseOptions& o,
                             const torch::nn::LayerNormImpl& norm, ScalarType type) {
  const int64_t frames = x.size(1), dim = x.size(2);
  EARSHOT_CHECK(first >= 0 && num >= 0 && first + num <= frames, "frames {} to {} of {}", first, first + num, frames);
  EARSHOT_CHECK(o.ends.empty() || static_cast<int64_t>(o.ends.size()) == num, "{} ends of {} frames", o.ends.size(),
                num);
  const Activation out = Room(x, {x.size(0), num, dim}, type);
  const int64_t item_size = out.values.element_size();
  const auto run = Kernels().depthwise;
  for (int64_t n = 0; n < x.size(0); ++n) {
    DepthwiseArguments a{.dim = dim, .rows = frames, .kernel = o.kernel, .before = o.before};
    a.ends = o.ends.empty() ? nullptr : o.ends.data();
    a.weight = FloatsOf(o.weight);
    a.bias = FloatsOf(o.bias);
    a.in = FloatsOf(x) + n * frames * dim;
    a.norm = NormOf(norm);
    a.first = first;
    a.out = TargetOf(out);
    a.out.data = static_cast<char*>(a.out.data) + n * num * dim * item_size;
    if (a.out.scale != nullptr) a.out.scale += n * num;
    // Threads take whole tiles.
    const int64_t tiles = (num + kDepthwiseTile - 1) / kDepthwiseTile;
    ForRows(tiles, kDepthwiseTile * o.kernel * dim / 8, kDepthwiseFrames * (dim + 16),
            [&](int64_t begin, int64_t end, float* scratch) {
              run(a, begin * kDepthwiseTile, std::min(num, end * kDepthwiseTile), scratch);
            });
  }
  return out;
}

StrideWeights PackStride(const Tensor& weight, const Tensor& bias) {
  StrideWeights packed;
  packed.weight = weight.detach().to(torch::kFloat).flatten(1).t().contiguous();  // (9, channels)
  packed.bias = bias.detach().to(torch::kFloat).contiguous();
  return packed;
}

Tensor SubsampleTwice(const Tensor& x, const StrideWeights& first, const StrideWeights& second, ScalarType type) {
  const int64_t num = x.size(0), frames = (x.size(1) - 3) / 4, bins = x.size(2), half = (bins + 1) / 2;
  const int64_t channels = first.bias.size(0);
  Tensor out = torch::empty({num, frames, (half + 1) / 2, channels}, x.options().dtype(type));
  const RowKernels& kernels = Kernels();
  // The first gives 40 times as much as it reads: a few frames of it at a time stay in the cache.
  constexpr int64_t kTile = 8;
  const int64_t tiles = (frames + kTile - 1) / kTile, line = half * channels;
  for (int64_t n = 0; n < num; ++n) {
    FirstConvolutionArguments a{.bins = bins, .channels = channels};
    a.weight = FloatsOf(first.weight);
    a.bias = FloatsOf(first.bias);
    DepthwiseStrideArguments b{.bins = half, .channels = channels};
    b.weight = FloatsOf(second.weight);
    b.bias = FloatsOf(second.bias);
    const float* in = FloatsOf(x) + n * x.size(1) * bins;
    auto* values = static_cast<char*>(out.data_ptr()) + n * out.stride(0) * out.element_size();
    ForRows(tiles, kTile * line * 20, (2 * kTile + 1) * line, [&](int64_t begin, int64_t end, float* scratch) {
      FirstConvolutionArguments one = a;
      DepthwiseStrideArguments two = b;
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t t = tile * kTile, count = std::min(kTile, frames - t);
        one.in = in + 4 * t * bins;
        one.out = scratch;
        kernels.first_convolution(one, 0, 2 * count + 1);
        two.in = {.data = scratch};
        two.out = {.data = values + t * out.stride(1) * out.element_size(), .type = TypeOf(type)};
        kernels.depthwise_stride(two, 0, count);
      }
    });
  }
  return out;
}

Tensor SubsampleOnce(const Tensor& x, const StrideWeights& weights, ScalarType type) {
  const int64_t num = x.size(0), frames = (x.size(1) - 1) / 2, bins = x.size(2), channels = x.size(3);
  EARSHOT_CHECK(x.is_contiguous(), "frames that are not contiguous");
  Tensor out = torch::empty({num, frames, (bins + 1) / 2, channels}, x.options().dtype(type));
  const auto run = Kernels().depthwise_stride;
  for (int64_t n = 0; n < num; ++n) {
    DepthwiseStrideArguments a{.bins = bins, .channels = channels};
    a.in = {.data = static_cast<const char*>(x.const_data_ptr()) + n * x.stride(0) * x.element_size(),
            .type = TypeOf(x.scalar_type())};
    a.weight = FloatsOf(weights.weight);
    a.bias = FloatsOf(weights.bias);
    a.out = {.data = static_cast<char*>(out.data_ptr()) + n * out.stride(0) * out.element_size(), .type = TypeOf(type)};
    ForRows(frames, 9 * out.stride(1), 0, [&](int64_t begin, int64_t end, float*) { run(a, begin, end); });
  }
  return out;
}

}  // namespace earshot
