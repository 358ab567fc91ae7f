#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstring>
#include <optional>

#include "src/attention/attention_kernel.h"
#include "src/attention/differentiable.h"
#include "src/attention/hybrid_attention.h"
#include "src/base/error.h"
#include "src/base/work.h"

namespace earshot {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// (N, heads, T, d) whose last axis is dense.
Tensor Dense(const Tensor& x) { return x.stride(3) == 1 || x.size(3) == 1 ? x : x.contiguous(); }

template <typename View>
View HeadsOf(const Tensor& x, int64_t n) {
  return {.data = static_cast<char*>(x.data_ptr()) + n * x.stride(0) * static_cast<int64_t>(x.element_size()),
          .frame_stride = x.stride(2),
          .head_stride = x.stride(1)};
}

// Fresh memory costs a fault for each of its pages of 4 KB, a fourth of the time of the attention that fills it. What
// takes many is asked for in pages of 2 MB, which the system may grant.
void AskForLargePages(void* data, size_t bytes) {
#if defined(__linux__)
  constexpr size_t kLeast = size_t{8} << 20, kPage = 4096;
  if (bytes < kLeast) return;
  const size_t skip = (kPage - reinterpret_cast<uintptr_t>(data) % kPage) % kPage;
  madvise(static_cast<char*>(data) + skip, (bytes - skip) / kPage * kPage, MADV_HUGEPAGE);
#endif
}

Tensor EmptyInLargePages(torch::IntArrayRef shape, const torch::TensorOptions& options) {
  Tensor x = torch::empty(shape, options);
  AskForLargePages(x.data_ptr(), x.nbytes());
  return x;
}

// (N, T, heads, d) in memory, so that the heads of a frame lie together for the linear layer that follows.
Tensor EmptyFrames(const Tensor& like) {
  return EmptyInLargePages({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options()).transpose(1, 2);
}

// The tensors of one call, dense and of one type, and what the kernels are told of them.
class Call {
 public:
  Call(const AttentionInputs& in, const AttentionPlan& plan) : plan_(plan), in_(in) {
    const auto type = in.q.scalar_type();
    q_ = Dense(in.q);
    k_ = Dense(in.k.to(type));
    v_ = Dense(in.v.to(type));
    if (in.bias.defined()) bias_ = in.bias.to(torch::kFloat).contiguous();
    if (in.selection_score.defined()) scores_ = in.selection_score.to(torch::kFloat).contiguous();
    heads_ = q_.size(1);
    kv_heads_ = k_.size(1);
    if (plan.Drops(in)) dropped_ = plan.DroppedQueries(in).contiguous();
    for (int64_t n = 0; n < utterances(); ++n) {
      keys_.push_back(plan.KeysOf(in, n));
      units_.push_back(Units(n));
    }
  }

  int64_t utterances() const { return q_.size(0); }
  int64_t kv_heads() const { return kv_heads_; }
  // What is computed at a time: runs of queries that are there and not dropped.
  const std::vector<UnitRange>& units(int64_t n) const { return units_[static_cast<size_t>(n)]; }

  AttentionArguments Arguments(int64_t n, const Tensor& out, const Tensor& lse) const {
    AttentionArguments a;
    a.type = q_.scalar_type() == torch::kFloat ? KernelType::kFloat : KernelType::kBFloat16;
    a.heads = static_cast<int>(heads_);
    a.kv_heads = static_cast<int>(kv_heads_);
    a.head_dim = static_cast<int>(q_.size(3));
    a.scale = static_cast<float>(AttentionScale(q_));
    a.q = HeadsOf<ConstHeadsView>(q_, n);
    a.k = HeadsOf<ConstHeadsView>(k_, n);
    a.v = HeadsOf<ConstHeadsView>(v_, n);
    if (bias_.defined()) a.bias = bias_.data_ptr<float>() + n * bias_.size(1);
    if (scores_.defined()) a.scores = scores_.data_ptr<float>() + n * scores_[0].numel();
    a.out = HeadsOf<HeadsView>(out, n);
    if (lse.defined()) {
      a.lse = lse.data_ptr<float>() + n * lse.stride(0);
      a.lse_stride = lse.stride(1);
    }
    return a;
  }

  void Build(int64_t n, const KeyLayout& keys, const UnitRange& range, KeyUnit* unit) const {
    KeyDrop drop;
    if (dropped_.defined())
      drop = {.bias = bias_.data_ptr<float>() + n * bias_.size(1), .below = static_cast<float>(plan_.drop_below)};
    BuildKeyUnit(plan_.pattern, plan_.queries, keys, plan_.SelectionOf(in_, n), drop, range, unit);
  }

  const KeyLayout& Keys(int64_t n) const { return keys_[static_cast<size_t>(n)]; }

  // Queries that are padding or dropped: zeros. x: of EmptyFrames.
  void ZeroOthers(const Tensor& x) const {
    const auto frame_bytes = static_cast<size_t>(x.stride(2) * static_cast<int64_t>(x.element_size()));
    for (int64_t n = 0; n < utterances(); ++n) {
      char* frames = static_cast<char*>(x[n].data_ptr());
      const bool* dropped = DroppedOf(n);
      const int64_t valid = plan_.ValidQueries(in_, n);
      for (int64_t q = dropped ? 0 : valid; q < x.size(2); ++q) {
        if (q >= valid || dropped[q]) std::memset(frames + static_cast<size_t>(q) * frame_bytes, 0, frame_bytes);
      }
    }
  }

  Tensor WithoutDropped(const Tensor& x) const {
    return dropped_.defined() ? x.masked_fill(dropped_.view({utterances(), 1, x.size(2), 1}), 0) : x;
  }

  const Tensor& q() const { return q_; }
  const Tensor& k() const { return k_; }
  const Tensor& v() const { return v_; }

 private:
  // Of each query of utterance n; nullptr: none is dropped.
  const bool* DroppedOf(int64_t n) const {
    return dropped_.defined() ? dropped_.data_ptr<bool>() + n * dropped_.size(1) : nullptr;
  }

  std::vector<UnitRange> Units(int64_t n) const {
    // A shorter gap costs less computed than cut out.
    constexpr int64_t kGap = 16;
    std::vector<UnitRange> units;
    const bool* dropped = DroppedOf(n);
    const int64_t valid = plan_.ValidQueries(in_, n);
    for (int64_t q = 0; q < valid; ++q) {
      if (dropped && dropped[q]) continue;
      if (units.empty() || q >= units.back().first + kUnitQueries || q > units.back().first + units.back().count + kGap)
        units.push_back({.first = q});
      units.back().count = q + 1 - units.back().first;
    }
    return units;
  }

  const AttentionPlan& plan_;
  const AttentionInputs& in_;
  Tensor q_, k_, v_, bias_, scores_, dropped_;
  std::vector<KeyLayout> keys_;
  std::vector<std::vector<UnitRange>> units_;
  int64_t heads_ = 0, kv_heads_ = 0;
};

// Pairs of a query and a key.
int64_t NumPairs(const KeyUnit& unit) {
  int64_t pairs = 0;
  for (const KeyEntry& entry : unit.keys) pairs += entry.end - entry.first;
  return pairs;
}

// out and lse (undefined: not wanted) are written.
void Forward(const Call& call, const Tensor& out, const Tensor& lse) {
  struct Task {
    int64_t n;
    UnitRange range;
    int64_t first_head, last_head;
  };
  size_t units = 0;
  for (int64_t n = 0; n < call.utterances(); ++n) units += call.units(n).size();
  // A list serves all heads; where there are too few of them for the threads, each head makes its own.
  const int64_t kv_heads = call.kv_heads();
  const int64_t heads_at_once = static_cast<int64_t>(units) < 2 * at::get_num_threads() ? 1 : kv_heads;
  std::vector<Task> tasks;
  for (int64_t n = 0; n < call.utterances(); ++n) {
    for (const UnitRange& range : call.units(n)) {
      for (int64_t h = 0; h < kv_heads; h += heads_at_once) tasks.push_back({n, range, h, h + heads_at_once});
    }
  }
  // What a stream brings at a time is done before another thread has woken.
  constexpr int64_t kLeastOfThread = 1 << 18;  // products of a query and a key, at the most
  const int64_t of_task = std::min<int64_t>(kUnitQueries, call.q().size(2)) * call.k().size(2) * heads_at_once;
  const int64_t grain = std::max<int64_t>(1, kLeastOfThread / std::max<int64_t>(1, of_task));
  at::parallel_for(0, static_cast<int64_t>(tasks.size()), grain, [&](int64_t begin, int64_t end) {
    AttentionScratch scratch;
    KeyUnit unit;
    int64_t pairs = 0;
    for (int64_t i = begin; i < end; ++i) {
      const Task& task = tasks[static_cast<size_t>(i)];
      call.Build(task.n, call.Keys(task.n), task.range, &unit);
      if (task.first_head == 0) pairs += NumPairs(unit);
      const AttentionArguments arguments = call.Arguments(task.n, out, lse);
      for (int64_t h = task.first_head; h < task.last_head; ++h)
        AttentionForward(arguments, unit, static_cast<int>(h), scratch);
    }
    if (!lse.defined()) CountWork({.attention_pairs = pairs});
  });
  call.ZeroOthers(out);
}

Tensor Rounded(const Tensor& x, torch::ScalarType type) {
  return x.scalar_type() == type ? x : EmptyInLargePages(x.sizes(), x.options().dtype(type)).copy_(x);
}

struct Gradients {
  Tensor q, k, v, bias, score;
};

Gradients Backward(const Call& call, const AttentionInputs& in, const Tensor& out, const Tensor& lse,
                   const Tensor& grad_out) {
  // A dropped query within a unit was computed, but nothing follows from it.
  const Tensor dense_grad = Dense(call.WithoutDropped(grad_out.to(call.q().scalar_type())));
  const auto float_options = call.q().options().dtype(torch::kFloat);
  Gradients g;
  g.q = EmptyFrames(call.q());
  g.k = EmptyInLargePages(call.k().sizes(), float_options).zero_();
  g.v = EmptyInLargePages(call.v().sizes(), float_options).zero_();
  const int64_t kv_heads = call.kv_heads(), rows = call.k().size(2);
  if (WantsGradient(in.bias)) g.bias = torch::zeros({call.utterances(), kv_heads, rows}, float_options);
  const int64_t scores = WantsGradient(in.selection_score) ? in.selection_score[0].numel() : 0;
  if (scores > 0) g.score = torch::zeros({call.utterances(), kv_heads, scores}, float_options);
  // The units of one utterance and head add to the same keys: one after the other, so that the sums are always the
  // same.
  at::parallel_for(0, call.utterances() * kv_heads, 1, [&](int64_t begin, int64_t end) {
    AttentionScratch scratch;
    KeyUnit unit;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / kv_heads;
      const KeyLayout& keys = call.Keys(n);
      const AttentionArguments arguments = call.Arguments(n, out, lse);
      AttentionGradients gradients;
      gradients.grad_out = HeadsOf<ConstHeadsView>(dense_grad, n);
      gradients.grad_q = HeadsOf<HeadsView>(g.q, n);
      gradients.grad_k = HeadsOf<HeadsView>(g.k, n);
      gradients.grad_v = HeadsOf<HeadsView>(g.v, n);
      if (g.bias.defined()) {
        gradients.grad_bias = g.bias.data_ptr<float>() + n * g.bias.stride(0);
        gradients.bias_stride = rows;
      }
      if (g.score.defined()) {
        gradients.grad_scores = g.score.data_ptr<float>() + n * g.score.stride(0);
        gradients.scores_stride = scores;
      }
      for (const UnitRange& range : call.units(n)) {
        call.Build(n, keys, range, &unit);
        AttentionBackward(arguments, gradients, unit, static_cast<int>(task % kv_heads), scratch);
      }
    }
  });
  call.ZeroOthers(g.q);
  return g;
}

class Function : public torch::autograd::Function<Function> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& score,
                        const c10::intrusive_ptr<SavedPlan>& saved) {
    const AttentionInputs in{q, k, v, bias.value_or(Tensor()), saved->lens, saved->selection, score.value_or(Tensor())};
    const Call call(in, saved->plan);
    const Tensor out = EmptyFrames(call.q());
    const Tensor lse = torch::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(torch::kFloat));
    Forward(call, out, lse);
    context->save_for_backward({q, k, v, in.bias, in.selection_score, out, lse});
    context->saved_data["plan"] = c10::IValue::make_capsule(saved);
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    RefuseSecondDerivative();
    const variable_list s = context->get_saved_variables();
    const auto saved = c10::static_intrusive_pointer_cast<SavedPlan>(context->saved_data["plan"].toCapsule());
    const AttentionInputs in{s[0], s[1], s[2], s[3], saved->lens, saved->selection, s[4]};
    const Call call(in, saved->plan);
    const Gradients g = Backward(call, in, s[5], s[6], grads[0]);
    return {
        g.q,
        Rounded(g.k, in.k.scalar_type()),
        Rounded(g.v, in.v.scalar_type()),
        g.bias.defined() ? g.bias.sum(1).to(in.bias.scalar_type()) : Tensor(),
        g.score.defined() ? g.score.sum(1).view_as(in.selection_score).to(in.selection_score.scalar_type()) : Tensor(),
        Tensor()};
  }
};

}  // namespace

Tensor HybridAttentionCpu(const AttentionInputs& in, const AttentionPlan& plan) {
  if (WantsGradient(in)) {
    return Function::apply(in.q, in.k, in.v, IfDefined(in.bias), IfDefined(in.selection_score),
                           c10::make_intrusive<SavedPlan>(plan, in));
  }
  const Call call(in, plan);
  const Tensor out = EmptyFrames(call.q());
  Forward(call, out, {});
  return out;
}

}  // namespace earshot
