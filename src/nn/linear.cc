#include "src/nn/linear.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <optional>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/simd_level.h"
#include "src/nn/rounded_rows.h"

namespace earshot {
namespace {

using torch::Tensor;

// Rows that the weights are laid out for. oneDNN takes them for any other number as well; measured alike from 16 on.
constexpr int64_t kTypicalRows = 512;

// An operator of ATen that its C++ headers do not declare, called by schema: the same in torch 2.6 to 2.11, whereas the
// types of its C++ function are not.
class Operator {
 public:
  explicit Operator(const char* name) : handle_(c10::Dispatcher::singleton().findSchema({name, ""})) {}
  bool exists() const { return handle_.has_value(); }
  Tensor operator()(std::vector<c10::IValue> stack) const {
    handle_->callBoxed(&stack);
    return std::move(stack.front()).toTensor();
  }

 private:
  std::optional<c10::OperatorHandle> handle_;
};

const Operator& ReorderWeight() {
  static const Operator kOperator("mkldnn::_reorder_linear_weight");
  return kOperator;
}
const Operator& LinearPointwise() {
  static const Operator kOperator("mkldnn::_linear_pointwise");
  return kOperator;
}
const Operator& QuantizedPrepack() {
  static const Operator kOperator("onednn::qlinear_prepack");
  return kOperator;
}
const Operator& QuantizedPointwise() {
  static const Operator kOperator("onednn::qlinear_pointwise");
  return kOperator;
}

c10::IValue NoScalars() { return c10::List<std::optional<at::Scalar>>(); }

bool HasBf16() {
#if defined(__x86_64__)
  return SupportedSimdLevels().back() >= SimdLevel::kAvx512Bf16;
#else
  return false;
#endif
}

bool HasOneDnn() {
  return at::hasMKLDNN() && at::globalContext().userEnabledMkldnn() && LinearPointwise().exists() &&
         ReorderWeight().exists();
}

// What a product in int8 is given out as: bf16 halves the memory that it and its reader go through.
torch::ScalarType QuantizedOutput() { return HasBf16() ? torch::kBFloat16 : torch::kFloat; }

// Without tiles (AMX), oneDNN multiplies unsigned by signed numbers; for signed ones it has nothing but a reference
// there, some thousand times as slow.
bool TakesUnsigned() {
  static const bool kTakes = SupportedSimdLevels().back() < SimdLevel::kAmx;
  return kTakes;
}

// x: (rows, in) int8, scales and zero points of the weights: (out).
Tensor MultiplyQuantized(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& zeros) {
  constexpr int64_t kZero = 128;  // of unsigned numbers
  const Tensor rows = TakesUnsigned() ? x.view(torch::kByte).bitwise_xor(kZero) : x;
  return QuantizedPointwise()({rows, 1.0, TakesUnsigned() ? kZero : int64_t{0}, weight, scale, zeros, c10::IValue(),
                               1.0, int64_t{0}, static_cast<int64_t>(QuantizedOutput()), "none", NoScalars(), ""});
}

Tensor PackQuantized(const Tensor& weight) {
  return QuantizedPrepack()({weight, c10::List<int64_t>({kTypicalRows, weight.size(1)})});
}

// Whether this libtorch multiplies int8 by int8 on this CPU: instructions of before VNNI saturate where two products of
// large numbers are added up.
bool HasInt8() {
  static const bool kHas = [] {
    if (!HasOneDnn() || !QuantizedPrepack().exists() || !QuantizedPointwise().exists()) return false;
    try {
      const torch::NoGradGuard no_grad;
      Tensor x = (torch::arange(64, torch::kFloat).view({4, 16}) - 32).to(torch::kChar);
      Tensor w = (torch::arange(128, torch::kFloat).view({8, 16}) % 23 - 11).to(torch::kChar);
      x[0].fill_(127), x[1].fill_(-127);
      w[0].fill_(127), w[1].fill_(-127);
      const Tensor scale = torch::arange(1, 9, torch::kFloat) / 8;
      const Tensor y = MultiplyQuantized(x, PackQuantized(w), scale, torch::zeros({8}, torch::kLong)).to(torch::kFloat);
      const Tensor expected = torch::matmul(x.to(torch::kFloat), w.to(torch::kFloat).t()) * scale;
      return (y - expected).abs().max().item<float>() <= 0.01F * expected.abs().max().item<float>();
    } catch (const std::exception&) {
      return false;
    }
  }();
  return kHas;
}

// The rows and numbers behind them, up to `count` rows: in place where they are all that is there, as Room of
// inference.cc and products leave them; what else may lie behind rows need not be numbers.
Tensor WithRowsBehind(const Tensor& rows, int64_t count) {
  if (rows.size(0) == count) return rows;
  const int64_t width = rows.size(1), there = static_cast<int64_t>(rows.storage().nbytes()) / rows.element_size();
  if (rows.is_contiguous() && rows.storage_offset() == 0 && count * width == there)
    return rows.as_strided({count, width}, {width, 1});
  return torch::constant_pad_nd(rows, {0, 0, 0, count - rows.size(0)});
}

}  // namespace

InferencePrecision Supported(InferencePrecision wanted) {
  if (wanted == InferencePrecision::kInt8) {
    if (HasInt8()) return wanted;
    wanted = InferencePrecision::kBFloat16;
  }
  return wanted == InferencePrecision::kBFloat16 && HasOneDnn() && HasBf16() ? wanted : InferencePrecision::kFloat;
}

PackedMatrix::PackedMatrix(const Tensor& weight, const Tensor& bias, InferencePrecision precision) {
  const torch::NoGradGuard no_grad;
  const Tensor plain = weight.detach().to(torch::kFloat).contiguous();
  out_ = plain.size(0);
  if (bias.defined()) bias_ = bias.detach().to(torch::kFloat).contiguous();
  precision = Supported(precision);
  if (precision == InferencePrecision::kInt8) {
    input_type_ = torch::kChar;
    scale_ = plain.abs().amax(1).clamp_min(1e-12) / 127;  // (out)
    zeros_ = torch::zeros({plain.size(0)}, torch::kLong);
    weight_ = PackQuantized((plain / scale_.unsqueeze(1)).round().to(torch::kChar));
    packed_ = true;
    return;
  }
  input_type_ = precision == InferencePrecision::kBFloat16 ? torch::kBFloat16 : torch::kFloat;
  weight_ = plain.to(input_type_);
  if (bias_.defined()) bias_ = bias_.to(input_type_);
  packed_ = HasOneDnn();
  if (packed_) weight_ = ReorderWeight()({weight_, kTypicalRows});
}

Product PackedMatrix::Multiply(const Activation& x) const {
  EARSHOT_CHECK(x.values.scalar_type() == input_type_, "a matrix for {} times {}", c10::toString(input_type_),
                c10::toString(x.values.scalar_type()));
  if (!packed_) return {.values = torch::linear(x.values, weight_, bias_)};
  std::vector<int64_t> shape = x.values.sizes().vec();
  const Tensor rows = x.values.reshape({-1, shape.back()});
  shape.back() = out_;
  if (rows.size(0) == 0) {
    const torch::ScalarType type = input_type_ == torch::kChar ? QuantizedOutput() : input_type_;
    return {.values = torch::empty(shape, x.values.options().dtype(type)), .scale = x.scale};
  }
  const int64_t count = rows.size(0);
  const Tensor padded =
      WithRowsBehind(rows, RoundedRows::Of(count, input_type_ == torch::kBFloat16 ? rows.size(1) : 0));
  const auto whole = [&](const Tensor& product) { return product.narrow(0, 0, count).view(shape); };
  if (input_type_ == torch::kChar)
    return {.values = whole(MultiplyQuantized(padded, weight_, scale_, zeros_)), .scale = x.scale, .bias = bias_};
  const c10::IValue bias = bias_.defined() ? c10::IValue(bias_) : c10::IValue();
  return {.values = whole(LinearPointwise()({padded, weight_, bias, "none", NoScalars(), ""}))};
}

void Prepack(torch::nn::Module& root, InferencePrecision precision) {
  root.eval();
  for (const auto& parameter : root.parameters())
    if (!parameter.is_cpu()) return;
  if (auto* layer = dynamic_cast<Prepackable*>(&root)) layer->Prepack(precision);
  for (const auto& module : root.modules(/*include_self=*/false)) {
    if (auto* layer = dynamic_cast<Prepackable*>(module.get())) layer->Prepack(precision);
  }
}

Linear::Linear(int64_t in, int64_t out, bool bias) : LinearImpl(torch::nn::LinearOptions(in, out).bias(bias)) {}

Tensor Linear::forward(const Tensor& x) {
  if (!packed_ || !ForInference(*this, x)) return torch::nn::LinearImpl::forward(x);
  return Multiply(Convert(x, input_type())).Value().to(x.scalar_type());
}

void Linear::Prepack(InferencePrecision precision) {
  packed_ = std::make_shared<PackedMatrix>(weight, bias, precision);
}

void Linear::train(bool on) {
  torch::nn::Module::train(on);
  if (on) packed_.reset();
}

Product Linear::Multiply(const Activation& x) const {
  if (packed_) return packed_->Multiply(x);
  return {.values = torch::linear(x.values, weight, bias)};
}

}  // namespace earshot
