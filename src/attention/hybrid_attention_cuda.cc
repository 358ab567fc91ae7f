#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <optional>

#include "src/attention/cuda/pattern_terms.h"
#include "src/attention/cuda_library.h"
#include "src/attention/differentiable.h"
#include "src/attention/hybrid_attention.h"
#include "src/base/error.h"
#include "src/base/log.h"

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

// The lists of one batch on the device, by query and, once a gradient was asked for, by key; and what they lie in.
struct Lists {
  CudaKeyLists by_query;
  CudaTransposedLists by_key;
  bool has_by_key = false;
  CudaWindow window;  // where one term alone made them, of these utterances
  std::vector<CudaUtterance> utterances;
  std::vector<Tensor> memory;
};

// Valid frames of each utterance.
std::vector<int64_t> Lengths(const AttentionInputs& in, const AttentionPlan& plan) {
  std::vector<int64_t> lengths;
  for (int64_t n = 0; n < in.q.size(0); ++n) lengths.push_back(plan.KeysOf(in, n).valid_frames);
  return lengths;
}

// Frames alone, at their own positions: rows of queries are rows of keys.
bool FramesAlone(const AttentionPlan& plan) {
  return plan.queries.positions.empty() && plan.keys.positions.empty() && plan.queries.first == 0 &&
         plan.queries.num_queries == plan.keys.num_frames && plan.num_rows == plan.keys.num_frames;
}

Lists HostLists(AttentionInputs in, const AttentionPlan& plan) {
  if (in.selection.defined()) in.selection = in.selection.to(torch::kCPU);
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
  result.by_query = {.num_tiles = static_cast<int32_t>(tiles.size()),
                     .tiles = static_cast<const CudaQueryTile*>(result.memory[0].data_ptr()),
                     .tile_offsets = static_cast<const int32_t*>(result.memory[1].data_ptr()),
                     .entries = static_cast<const CudaKeyEntry*>(result.memory[2].data_ptr()),
                     .capacity = static_cast<int64_t>(entries.size())};
  return result;
}

}  // namespace

// What follows from the plan and the lengths of the last batch alone.
struct PlanLists {
  std::mutex mutex;
  torch::Device device = torch::kCPU;
  std::vector<int64_t> lengths;
  std::vector<CudaUtterance> utterances;
  Tensor on_device;  // the same
  std::shared_ptr<Lists> lists;
};
std::shared_ptr<PlanLists> NewPlanLists() { return std::make_shared<PlanLists>(); }

namespace {

Lists MakeLists(const AttentionInputs& in, const AttentionPlan& plan, PlanLists& known, const Tensor& bias,
                void* stream) {
  CudaListArguments arguments;
  Lists host;
  Tensor selection;
  if (FramesAlone(plan) && AddPatternTerms(plan.pattern, &arguments)) {
    if (!known.on_device.defined()) {
      for (size_t n = 0; n < known.lengths.size(); ++n) {
        known.utterances.push_back({.start = static_cast<int32_t>(static_cast<int64_t>(n) * plan.keys.num_frames),
                                    .length = static_cast<int32_t>(known.lengths[n])});
      }
      known.on_device = Upload(known.utterances, in.q.device());
    }
    arguments.num_utterances = static_cast<int32_t>(known.utterances.size());
    arguments.host_utterances = known.utterances.data();
    arguments.device_utterances = static_cast<const CudaUtterance*>(known.on_device.data_ptr());
    if (in.selection.defined() && in.selection.numel() > 0) {
      selection = in.selection.to(in.q.device());
      arguments.selection = {.blocks = selection.data_ptr<int64_t>(),
                             .num_blocks = static_cast<int32_t>(selection.size(1)),
                             .chosen = static_cast<int32_t>(selection.size(2)),
                             .block = static_cast<int32_t>(plan.pattern.learned()->chunk)};
    }
  } else {
    arguments.num_terms = 0;
    host = HostLists(in, plan);
    if (!plan.Drops(in)) return host;
    arguments.also = &host.by_query;
  }
  if (plan.Drops(in)) {
    arguments.row_values = bias.data_ptr<float>();
    arguments.threshold = static_cast<float>(plan.drop_below);
    arguments.drops_queries = true;
  }
  const CudaAttentionTable& table = *CudaAttentionLibrary();
  Lists result;
  result.memory = {DeviceBytes(table.key_lists_bytes(arguments), in.q.device()), known.on_device, selection};
  result.memory.insert(result.memory.end(), host.memory.begin(), host.memory.end());
  CheckCuda(table.build_key_lists(arguments, result.memory[0].data_ptr(), &result.by_query, stream), "attention lists");
  if (arguments.num_terms == 1 && !arguments.selection.blocks && !arguments.row_values) {
    result.utterances = known.utterances;
    result.window = {arguments.terms[0], arguments.num_utterances, result.utterances.data(),
                     arguments.device_utterances};
  }
  return result;
}

std::shared_ptr<Lists> ListsOf(const AttentionInputs& in, const AttentionPlan& plan, const Tensor& bias, void* stream) {
  std::vector<int64_t> lengths = Lengths(in, plan);
  PlanLists& known = *plan.lists;
  const std::lock_guard lock(known.mutex);
  if (known.device != in.q.device() || known.lengths != lengths) {
    known.device = in.q.device();
    known.lengths = std::move(lengths);
    known.utterances.clear();
    known.on_device = Tensor();
    known.lists = nullptr;
  }
  if (plan.Drops(in) || in.selection.defined())
    return std::make_shared<Lists>(MakeLists(in, plan, known, bias, stream));
  if (!known.lists) known.lists = std::make_shared<Lists>(MakeLists(in, plan, known, bias, stream));
  return known.lists;
}

// One call: its tensors packed and of one type.
struct Call {
  Tensor q, k, v, bias, scores;
  // Queries that the gate drops: by their bias in the kernels, or, where their rows are not those of keys, afterwards.
  bool drops_by_bias = false;
  float drop_below = 0;
  Tensor dropped;
  void* stream = nullptr;

  Call(const AttentionInputs& in, const AttentionPlan& plan) {
    q = Packed(in.q);
    k = Packed(in.k.to(in.q.scalar_type()));
    v = Packed(in.v.to(in.q.scalar_type()));
    if (in.bias.defined()) bias = in.bias.to(torch::kFloat).contiguous();
    if (in.selection_score.defined()) scores = in.selection_score.to(torch::kFloat).contiguous();
    drops_by_bias = plan.Drops(in) && FramesAlone(plan);
    drop_below = static_cast<float>(plan.drop_below);
    if (plan.Drops(in) && !drops_by_bias)
      dropped = plan.DroppedQueries(in).to(q.device()).view({q.size(0), 1, q.size(2), 1});
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
    if (drops_by_bias) a.query_values = a.bias, a.query_threshold = drop_below;
    a.out = MutableView(out);
    if (lse.defined()) a.lse = lse.data_ptr<float>(), a.lse_stride = a.num_queries;
    return a;
  }
};

// (N, H, T, d), with the heads of a frame together. Zeros where some queries are in no tile: those are left as they
// are.
Tensor EmptyFrames(const Tensor& like, bool all_in_tiles) {
  const std::vector<int64_t> shape = {like.size(0), like.size(2), like.size(1), like.size(3)};
  const Tensor frames = all_in_tiles ? torch::empty(shape, like.options()) : torch::zeros(shape, like.options());
  return frames.transpose(1, 2);
}

bool AllInTiles(const AttentionInputs& in, const AttentionPlan& plan) {
  for (int64_t n = 0; n < in.q.size(0); ++n)
    if (plan.ValidQueries(in, n) < plan.queries.num_queries) return false;
  return true;
}

struct Result {
  Tensor out, lse;  // lse: where it was wanted
  std::shared_ptr<Lists> lists;
};

Result Forward(const AttentionInputs& in, const AttentionPlan& plan, const Call& call, bool wants_lse) {
  Result r;
  const bool all_in_tiles = AllInTiles(in, plan);
  r.out = EmptyFrames(call.q, all_in_tiles);
  if (wants_lse) {
    const std::vector<int64_t> shape = {call.q.size(1), call.q.size(0) * call.q.size(2)};
    const auto options = call.q.options().dtype(torch::kFloat);
    r.lse = all_in_tiles ? torch::empty(shape, options) : torch::full(shape, -INFINITY, options);
  }
  r.lists = ListsOf(in, plan, call.bias, call.stream);
  CheckCuda(CudaAttentionLibrary()->forward(call.Arguments(r.lists->by_query, r.out, r.lse), call.stream), "attention");
  if (call.dropped.defined()) r.out.masked_fill_(call.dropped, 0);
  return r;
}

// The lists by key, made when a gradient is first asked for.
CudaTransposedLists ByKey(Lists& lists, PlanLists& known, int32_t num_keys, int32_t num_scores, torch::Device device,
                          void* stream) {
  const std::lock_guard lock(known.mutex);
  if (!lists.has_by_key) {
    const CudaAttentionTable& table = *CudaAttentionLibrary();
    const CudaTransposeArguments arguments{.lists = lists.by_query, .num_keys = num_keys, .num_scores = num_scores};
    lists.memory.push_back(DeviceBytes(table.transposed_lists_bytes(arguments), device));
    CheckCuda(table.build_transposed_lists(arguments, lists.memory.back().data_ptr(), &lists.by_key, stream),
              "attention lists");
    lists.has_by_key = true;
  }
  return lists.by_key;
}

// The lists serve the backward pass again.
struct Saved : SavedPlan {
  using SavedPlan::SavedPlan;
  std::shared_ptr<Lists> lists;
};

class Function : public torch::autograd::Function<Function> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& score,
                        const c10::intrusive_ptr<Saved>& saved) {
    const AttentionInputs in{q, k, v, bias.value_or(Tensor()), saved->lens, saved->selection, score.value_or(Tensor())};
    const Call call(in, saved->plan);
    const Result r = Forward(in, saved->plan, call, true);
    saved->lists = r.lists;
    context->save_for_backward({q, k, v, in.bias, in.selection_score, r.out, r.lse});
    context->saved_data["saved"] = c10::IValue::make_capsule(saved);
    return r.out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    RefuseSecondDerivative();
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
    a.forward = call.Arguments(saved->lists->by_query, s[5], s[6]);
    const int64_t scores = call.scores.defined() ? call.scores.numel() : 0;
    a.window = saved->lists->window;
    const Tensor grad_q = EmptyFrames(call.q, AllInTiles(in, saved->plan));
    const Tensor grad_k = EmptyFrames(call.k, true), grad_v = EmptyFrames(call.v, true);  // every row is written
    const int64_t kv_heads = call.k.size(1), rows = a.forward.num_keys;
    const auto options = call.q.options().dtype(torch::kFloat);
    Tensor grad_bias, grad_scores;
    if (call.bias.defined()) {
      grad_bias = torch::empty({kv_heads, rows}, options);
      a.grad_bias = grad_bias.data_ptr<float>(), a.bias_stride = rows;
    }
    if (scores > 0) {
      grad_scores = torch::empty({kv_heads, scores}, options);
      a.grad_scores = grad_scores.data_ptr<float>(), a.scores_stride = scores;
      a.num_scores = static_cast<int32_t>(scores);
    }
    a.grad_out = View(grad_out);
    a.grad_q = MutableView(grad_q), a.grad_k = MutableView(grad_k), a.grad_v = MutableView(grad_v);
    if (!table.takes_window(a)) {
      a.transposed = ByKey(*saved->lists, *saved->plan.lists, a.forward.num_keys, static_cast<int32_t>(scores),
                           in.q.device(), call.stream);
    }
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

namespace {

// Says once where it is missing: what follows is several times slower.
bool HasLibrary() {
  static const bool found = [] {
    if (CudaAttentionLibrary()) return true;
    LogWarning("libearshot_cuda.so is not beside the program: attention on the GPU is computed without its kernels");
    return false;
  }();
  return found;
}

}  // namespace

bool HasCudaKernels(const AttentionInputs& in) {
  const auto type = in.q.scalar_type();
  return in.q.device().is_cuda() && (type == torch::kHalf || type == torch::kBFloat16) && in.q.size(3) % 4 == 0 &&
         in.q.size(3) <= 128 && HasLibrary();
}

Tensor HybridAttentionCuda(const AttentionInputs& in, const AttentionPlan& plan) {
  const c10::DeviceGuard guard(in.q.device());
  if (WantsGradient(in)) {
    return Function::apply(in.q, in.k, in.v, IfDefined(in.bias), IfDefined(in.selection_score),
                           c10::make_intrusive<Saved>(plan, in));
  }
  return Forward(in, plan, Call(in, plan), false).out;
}

}  // namespace earshot
