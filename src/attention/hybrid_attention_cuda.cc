#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "src/attention/cuda/pattern_terms.h"
#include "src/attention/cuda_library.h"
#include "src/attention/differentiable.h"
#include "src/attention/hybrid_attention.h"
#include "src/base/error.h"

namespace earshot {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

void CheckCuda(int error, const char* what) {
  if (error != 0) Throw("{} on the GPU: {}", what, CudaAttentionLibrary()->message(error));
}

void* CurrentStream(torch::Device device) {
  return c10::impl::VirtualGuardImpl(torch::kCUDA).getStream(device).native_handle();
}

template <typename T>
Tensor Upload(const std::vector<T>& values, torch::Device device) {
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
  return torch::from_blob(const_cast<T*>(values.data()), {bytes}, torch::kUInt8).to(device);
}

Tensor DeviceBytes(int64_t bytes, torch::Device device) {
  CheckCuda(bytes < 0 ? static_cast<int>(bytes) : 0, "attention lists");
  return torch::empty({std::max<int64_t>(bytes, 1)}, torch::TensorOptions().dtype(torch::kUInt8).device(device));
}

// (N, heads, T, d) as rows n T + t of one packed sequence.
Tensor Packed(const Tensor& x) {
  const bool packed = x.stride(3) == 1 && (x.size(0) == 1 || x.stride(0) == x.size(2) * x.stride(2));
  return packed ? x : x.transpose(1, 2).contiguous().transpose(1, 2);
}

CudaConstHeads View(const Tensor& x) {
  return {.data = x.data_ptr(), .frame_stride = x.stride(2), .head_stride = x.stride(1)};
}
CudaHeads MutableView(const Tensor& x) {
  return {.data = x.data_ptr(), .frame_stride = x.stride(2), .head_stride = x.stride(1)};
}

// The lists of one batch on the device, and what they lie in.
struct Lists {
  CudaKeyLists lists;
  std::vector<Tensor> memory;
};

// All utterances whole, frames alone, and terms that the device can list by itself.
bool ListedOnDevice(const AttentionInputs& in, const AttentionPlan& plan, CudaListArguments* arguments) {
  const bool plain = plan.queries.positions.empty() && plan.keys.positions.empty() && plan.queries.first == 0 &&
                     plan.queries.num_queries == plan.keys.num_frames && plan.num_rows == plan.keys.num_frames;
  if (!plain || plan.pattern.learned()) return false;
  if (in.lens.defined() && in.lens.min().item<int64_t>() < plan.keys.num_frames) return false;
  return AddPatternTerms(plan.pattern, arguments);
}

Lists HostLists(const AttentionInputs& in, const AttentionPlan& plan) {
  const int64_t rows = plan.num_rows, queries = plan.queries.num_queries;
  const int64_t scores = in.selection_score.defined() ? in.selection_score[0].numel() : 0;
  std::vector<CudaQueryTile> tiles;
  std::vector<int32_t> offsets = {0};
  std::vector<CudaKeyEntry> entries;
  KeyUnit unit;
  for (int64_t n = 0; n < in.q.size(0); ++n) {
    const KeyLayout keys = plan.KeysOf(in, n);
    const int64_t valid = plan.ValidQueries(in, n);
    for (int64_t first = 0; first < valid; first += kCudaTileQueries) {
      const int64_t count = std::min<int64_t>(kCudaTileQueries, valid - first);
      BuildKeyUnit(plan.pattern, plan.queries, keys, plan.SelectionOf(in, n), {}, {first, count}, &unit);
      for (const KeyEntry& e : unit.keys) {
        entries.push_back({.row = static_cast<int32_t>(n * rows + e.row),
                           .first = static_cast<uint16_t>(e.first),
                           .end = static_cast<uint16_t>(e.end),
                           .score = e.score < 0 ? -1 : static_cast<int32_t>(n * scores + e.score)});
      }
      tiles.push_back(
          {.first_query = static_cast<int32_t>(n * queries + first), .num_queries = static_cast<int32_t>(count)});
      offsets.push_back(static_cast<int32_t>(entries.size()));
    }
  }
  Lists result;
  const auto device = in.q.device();
  result.memory = {Upload(tiles, device), Upload(offsets, device), Upload(entries, device)};
  result.lists = {.num_tiles = static_cast<int32_t>(tiles.size()),
                  .tiles = static_cast<const CudaQueryTile*>(result.memory[0].data_ptr()),
                  .tile_offsets = static_cast<const int32_t*>(result.memory[1].data_ptr()),
                  .entries = static_cast<const CudaKeyEntry*>(result.memory[2].data_ptr()),
                  .capacity = static_cast<int64_t>(entries.size())};
  return result;
}

Lists MakeLists(const AttentionInputs& in, const AttentionPlan& plan, const Tensor& bias, void* stream) {
  CudaListArguments arguments;
  Lists host;
  std::vector<int32_t> starts;
  Tensor device_starts;
  if (ListedOnDevice(in, plan, &arguments)) {
    for (int64_t n = 0; n <= in.q.size(0); ++n) starts.push_back(static_cast<int32_t>(n * plan.keys.num_frames));
    device_starts = Upload(starts, in.q.device());
    arguments.num_utterances = static_cast<int32_t>(in.q.size(0));
    arguments.host_starts = starts.data();
    arguments.device_starts = static_cast<const int32_t*>(device_starts.data_ptr());
  } else {
    arguments.num_terms = 0;
    host = HostLists(in, plan);
    if (!plan.Drops(in)) return host;
    arguments.also = &host.lists;
  }
  if (plan.Drops(in)) {
    arguments.row_values = bias.data_ptr<float>();
    arguments.threshold = static_cast<float>(plan.drop_below);
  }
  const CudaAttentionTable& table = *CudaAttentionLibrary();
  Lists result;
  result.memory = {DeviceBytes(table.key_lists_bytes(arguments), in.q.device()), device_starts};
  result.memory.insert(result.memory.end(), host.memory.begin(), host.memory.end());
  CheckCuda(table.build_key_lists(arguments, result.memory[0].data_ptr(), &result.lists, stream), "attention lists");
  return result;
}

// One call: its tensors packed and of one type.
struct Call {
  Tensor q, k, v, bias, scores, dropped;
  void* stream = nullptr;

  Call(const AttentionInputs& in, const AttentionPlan& plan) {
    q = Packed(in.q);
    k = Packed(in.k.to(in.q.scalar_type()));
    v = Packed(in.v.to(in.q.scalar_type()));
    if (in.bias.defined()) bias = in.bias.to(torch::kFloat).contiguous();
    if (in.selection_score.defined()) scores = in.selection_score.to(torch::kFloat).contiguous();
    if (plan.Drops(in)) dropped = plan.DroppedQueries(in).to(q.device()).view({q.size(0), 1, q.size(2), 1});
    stream = CurrentStream(q.device());
  }

  CudaAttentionArguments Arguments(const CudaKeyLists& lists, const Tensor& out, const Tensor& lse) const {
    CudaAttentionArguments a;
    a.element = q.scalar_type() == torch::kHalf ? CudaElement::kFloat16 : CudaElement::kBFloat16;
    a.heads = static_cast<int32_t>(q.size(1));
    a.kv_heads = static_cast<int32_t>(k.size(1));
    a.head_dim = static_cast<int32_t>(q.size(3));
    a.scale = static_cast<float>(AttentionScale(q));
    a.num_queries = static_cast<int32_t>(q.size(0) * q.size(2));
    a.num_keys = static_cast<int32_t>(k.size(0) * k.size(2));
    a.q = View(q), a.k = View(k), a.v = View(v);
    a.lists = lists;
    if (bias.defined()) a.bias = bias.data_ptr<float>();
    if (scores.defined()) a.scores = scores.data_ptr<float>();
    a.out = MutableView(out);
    if (lse.defined()) a.lse = lse.data_ptr<float>(), a.lse_stride = a.num_queries;
    return a;
  }
};

// Zeros, (N, H, T, d), with the heads of a frame together: queries that no tile holds are left as they are.
Tensor ZeroFrames(const Tensor& like) {
  return torch::zeros({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options()).transpose(1, 2);
}

struct Result {
  Tensor out, lse;
  Lists lists;
};

Result Forward(const AttentionInputs& in, const AttentionPlan& plan, const Call& call) {
  Result r;
  r.out = ZeroFrames(call.q);
  r.lse =
      torch::full({call.q.size(1), call.q.size(0) * call.q.size(2)}, -INFINITY, call.q.options().dtype(torch::kFloat));
  r.lists = MakeLists(in, plan, call.bias, call.stream);
  CheckCuda(CudaAttentionLibrary()->forward(call.Arguments(r.lists.lists, r.out, r.lse), call.stream), "attention");
  if (call.dropped.defined()) r.out.masked_fill_(call.dropped, 0);
  return r;
}

// The lists serve the backward pass again.
struct Saved : SavedPlan {
  using SavedPlan::SavedPlan;
  Lists lists;
};

class Function : public torch::autograd::Function<Function> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& score,
                        const c10::intrusive_ptr<Saved>& saved) {
    const AttentionInputs in{q, k, v, bias.value_or(Tensor()), saved->lens, saved->selection, score.value_or(Tensor())};
    const Call call(in, saved->plan);
    const Result r = Forward(in, saved->plan, call);
    saved->lists = r.lists;
    context->save_for_backward({q, k, v, in.bias, in.selection_score, r.out, r.lse});
    context->saved_data["saved"] = c10::IValue::make_capsule(saved);
    return r.out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list s = context->get_saved_variables();
    const auto saved = c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule());
    const AttentionInputs in{s[0], s[1], s[2], s[3], saved->lens, saved->selection, s[4]};
    const c10::DeviceGuard guard(in.q.device());
    const Call call(in, saved->plan);
    const CudaAttentionTable& table = *CudaAttentionLibrary();
    Tensor grad_out = grads[0].to(call.q.scalar_type());
    if (call.dropped.defined()) grad_out = grad_out.masked_fill(call.dropped, 0);
    grad_out = Packed(grad_out);

    CudaGradientArguments a;
    a.forward = call.Arguments(saved->lists.lists, s[5], s[6]);
    const int64_t scores = call.scores.defined() ? call.scores.numel() : 0;
    const CudaTransposeArguments transpose{
        .lists = saved->lists.lists, .num_keys = a.forward.num_keys, .num_scores = static_cast<int32_t>(scores)};
    const Tensor transposed = DeviceBytes(table.transposed_lists_bytes(transpose), in.q.device());
    CheckCuda(table.build_transposed_lists(transpose, transposed.data_ptr(), &a.transposed, call.stream),
              "attention lists");
    const Tensor grad_q = ZeroFrames(call.q), grad_k = ZeroFrames(call.k), grad_v = ZeroFrames(call.v);
    const int64_t kv_heads = call.k.size(1), rows = a.forward.num_keys;
    const auto options = call.q.options().dtype(torch::kFloat);
    Tensor grad_bias, grad_scores;
    if (call.bias.defined()) {
      grad_bias = torch::zeros({kv_heads, rows}, options);
      a.grad_bias = grad_bias.data_ptr<float>(), a.bias_stride = rows;
    }
    if (scores > 0) {
      grad_scores = torch::zeros({kv_heads, scores}, options);
      a.grad_scores = grad_scores.data_ptr<float>(), a.scores_stride = scores;
      a.num_scores = static_cast<int32_t>(scores);
    }
    a.grad_out = View(grad_out);
    a.grad_q = MutableView(grad_q), a.grad_k = MutableView(grad_k), a.grad_v = MutableView(grad_v);
    const Tensor memory = DeviceBytes(table.backward_bytes(a), in.q.device());
    CheckCuda(table.backward(a, memory.data_ptr(), call.stream), "the gradients of attention");
    return {grad_q,
            grad_k.to(in.k.scalar_type()),
            grad_v.to(in.v.scalar_type()),
            grad_bias.defined() ? grad_bias.sum(0).view_as(in.bias).to(in.bias.scalar_type()) : Tensor(),
            grad_scores.defined() ? grad_scores.sum(0).view_as(in.selection_score).to(in.selection_score.scalar_type())
                                  : Tensor(),
            Tensor()};
  }
};

}  // namespace

bool HasCudaKernels(const AttentionInputs& in) {
  const auto type = in.q.scalar_type();
  return in.q.device().is_cuda() && (type == torch::kHalf || type == torch::kBFloat16) && in.q.size(3) % 4 == 0 &&
         in.q.size(3) <= 128 && CudaAttentionLibrary() != nullptr;
}

Tensor HybridAttentionCuda(const AttentionInputs& in, const AttentionPlan& plan) {
  const c10::DeviceGuard guard(in.q.device());
  if (WantsGradient(in)) {
    return Function::apply(in.q, in.k, in.v, IfDefined(in.bias), IfDefined(in.selection_score),
                           c10::make_intrusive<Saved>(plan, in));
  }
  return Forward(in, plan, Call(in, plan)).out;
}

}  // namespace earshot
