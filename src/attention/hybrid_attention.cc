#include "src/attention/hybrid_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/error.h"

namespace earshot {
namespace {

using torch::Tensor;

// Stands for minus infinity: exp() of it is 0, and a row of nothing but it stays free of NaN.
constexpr double kNever = -1e30;
// Below this many queries one dense block is faster than gathering keys.
constexpr int64_t kDenseQueries = 128;

int64_t DefaultBlock(const Pattern& pattern) {
  int64_t block = 64;
  for (const PatternTerm& t : pattern.terms()) {
    if (t.kind == PatternKind::kLocal || t.kind == PatternKind::kBlockwise)
      block = (block + t.chunk - 1) / t.chunk * t.chunk;
  }
  return block;
}

Tensor ToTensor(const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64); }

// (N, Tk) float: 0 where the key is valid, kNever behind the end of its utterance. Undefined when all are.
Tensor LengthBias(const AttentionInputs& in, const AttentionPlan& plan) {
  if (!in.lens.defined()) return {};
  const int64_t num_keys = in.k.size(2);
  if (in.lens.min().item<int64_t>() >= num_keys) return {};
  const Tensor valid = torch::arange(num_keys, torch::kInt64).unsqueeze(0) < in.lens.unsqueeze(1);
  return torch::where(valid, 0.0, kNever).to(in.k.device(), torch::kFloat);
}

// What is added to the scores of each key: (N, Tk), or undefined.
Tensor KeyBias(const AttentionInputs& in, const AttentionPlan& plan) {
  Tensor bias = LengthBias(in, plan);
  if (!in.log_gate.defined()) return bias;
  return bias.defined() ? bias + in.log_gate.to(torch::kFloat) : in.log_gate.to(torch::kFloat);
}

// (N, H, Tq, M): scores of the memory that each query may see.
Tensor MemoryScores(const AttentionInputs& in, const AttentionPlan& plan, double scale) {
  const Tensor keys = in.memory_k.index_select(2, plan.memory_chunk.to(in.q.device()));  // (N, H, Tq, M, d)
  return torch::einsum("nhqd,nhqmd->nhqm", {in.memory_q, keys}).to(torch::kFloat) * scale;
}

Tensor MemoryOutput(const AttentionInputs& in, const AttentionPlan& plan, const Tensor& weights) {
  const Tensor values = in.memory_v.index_select(2, plan.memory_chunk.to(in.q.device()));  // (N, H, Tq, M, d)
  return torch::einsum("nhqm,nhqmd->nhqd", {weights.to(values.scalar_type()), values});
}

struct Softmax {
  Tensor keys;    // weights of the frames
  Tensor memory;  // weights of the memory, (N, H, Tq, M), or undefined
};

// scores: (N, H, Tq, K) float with kNever where a key is out of sight; memory: (N, H, Tq, M) or undefined.
Softmax Normalise(const Tensor& scores, const Tensor& memory) {
  const Tensor all = memory.defined() ? torch::cat({scores, memory}, -1) : scores;
  // The product makes zeros of rows in which nothing is seen.
  const Tensor weights = torch::softmax(all, -1) * (all > kNever / 2).to(torch::kFloat);
  if (!memory.defined()) return {weights, {}};
  const int64_t num_keys = scores.size(-1);
  return {weights.narrow(-1, 0, num_keys), weights.narrow(-1, num_keys, memory.size(-1))};
}

Tensor DenseVisible(const AttentionPlan& plan) {
  const PlanOptions& o = plan.options;
  std::vector<uint8_t> visible(static_cast<size_t>(o.num_queries * o.num_keys));
  for (int64_t q = 0; q < o.num_queries; ++q) {
    for (int64_t k = 0; k < o.num_keys; ++k) {
      const int64_t position = o.key_positions.empty() ? k : o.key_positions[static_cast<size_t>(k)];
      visible[static_cast<size_t>(q * o.num_keys + k)] = plan.pattern.MaySee(o.first_query + q, position) ? 1 : 0;
    }
  }
  return torch::tensor(visible, torch::kUInt8).to(torch::kBool).view({o.num_queries, o.num_keys});
}

Tensor DenseScores(const AttentionInputs& in, const AttentionPlan& plan, const Tensor& visible) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(in.q.size(3)));
  Tensor scores = torch::matmul(in.q, in.k.transpose(2, 3)).to(torch::kFloat) * scale;  // (N, H, Tq, Tk)
  const Tensor bias = KeyBias(in, plan);
  if (bias.defined()) scores = scores + bias.unsqueeze(1).unsqueeze(1);
  if (visible.defined()) scores = scores.masked_fill(~visible.to(scores.device()), kNever);
  return scores.clamp_min(kNever);
}

Tensor DenseAttention(const AttentionInputs& in, const AttentionPlan& plan, const Tensor& visible) {
  const Tensor scores = DenseScores(in, plan, visible);
  const bool memory = in.memory_k.defined();
  const double scale = 1.0 / std::sqrt(static_cast<double>(in.q.size(3)));
  const Softmax weights = Normalise(scores, memory ? MemoryScores(in, plan, scale) : Tensor());
  Tensor out = torch::matmul(weights.keys.to(in.v.scalar_type()), in.v);
  if (memory) out = out + MemoryOutput(in, plan, weights.memory);
  return out;
}

}  // namespace

AttentionPlan MakeAttentionPlan(const Pattern& pattern, const PlanOptions& options) {
  AttentionPlan plan;
  plan.options = options;
  plan.pattern = pattern;
  const PlanOptions& o = plan.options;
  EARSHOT_CHECK(o.key_positions.empty() || static_cast<int64_t>(o.key_positions.size()) == o.num_keys,
                "{} key positions for {} keys", o.key_positions.size(), o.num_keys);
  if (const PatternTerm* memory = pattern.memory()) {
    std::vector<int64_t> chunks(static_cast<size_t>(o.num_queries));
    for (int64_t q = 0; q < o.num_queries; ++q) {
      chunks[static_cast<size_t>(q)] = (o.first_query + q) / memory->chunk - o.first_query / memory->chunk;
    }
    plan.memory_chunk = ToTensor(chunks);
  }
  plan.dense = (o.block == 0 && o.num_queries <= kDenseQueries) || pattern.IsFull();
  if (plan.dense) {
    if (!pattern.IsFull()) plan.visible = DenseVisible(plan).unsqueeze(0);
    return plan;
  }
  plan.block = o.block > 0 ? o.block : DefaultBlock(pattern);
  plan.num_blocks = (o.num_queries + plan.block - 1) / plan.block;
  // Positions back to indices into the keys that are there.
  auto index_of = [&](int64_t position) -> int64_t {
    if (o.key_positions.empty()) return position < o.num_keys ? position : -1;
    const auto it = std::lower_bound(o.key_positions.begin(), o.key_positions.end(), position);
    return it != o.key_positions.end() && *it == position ? it - o.key_positions.begin() : -1;
  };
  const int64_t past_last = o.key_positions.empty() ? o.num_keys : (o.num_keys == 0 ? 0 : o.key_positions.back() + 1);
  std::vector<std::vector<int64_t>> lists(static_cast<size_t>(plan.num_blocks));
  for (int64_t b = 0; b < plan.num_blocks; ++b) {
    const int64_t first = o.first_query + b * plan.block;
    const int64_t last = std::min(first + plan.block, o.first_query + o.num_queries) - 1;
    for (const int64_t position : pattern.Keys(first, last, past_last)) {
      if (index_of(position) >= 0) lists[static_cast<size_t>(b)].push_back(position);
    }
    plan.width = std::max(plan.width, static_cast<int64_t>(lists[static_cast<size_t>(b)].size()));
  }
  std::vector<int64_t> index(static_cast<size_t>(plan.num_blocks * plan.width), 0);
  std::vector<uint8_t> visible(static_cast<size_t>(plan.num_blocks * plan.block * plan.width), 0);
  for (int64_t b = 0; b < plan.num_blocks; ++b) {
    const std::vector<int64_t>& list = lists[static_cast<size_t>(b)];
    for (size_t w = 0; w < list.size(); ++w) {
      index[static_cast<size_t>(b * plan.width) + w] = index_of(list[w]);
      for (int64_t r = 0; r < plan.block && b * plan.block + r < o.num_queries; ++r) {
        visible[static_cast<size_t>((b * plan.block + r) * plan.width) + w] =
            pattern.MaySee(o.first_query + b * plan.block + r, list[w]) ? 1 : 0;
      }
    }
  }
  plan.index = ToTensor(index);
  plan.visible = torch::tensor(visible, torch::kUInt8).to(torch::kBool).view({plan.num_blocks, plan.block, plan.width});
  return plan;
}

Tensor HybridAttention(const AttentionInputs& in, const AttentionPlan& plan) {
  const int64_t n = in.q.size(0), heads = in.q.size(1), num_queries = in.q.size(2), d = in.q.size(3);
  EARSHOT_CHECK(num_queries == plan.options.num_queries && in.k.size(2) == plan.options.num_keys,
                "{} queries and {} keys, the plan is for {} and {}", num_queries, in.k.size(2),
                plan.options.num_queries, plan.options.num_keys);
  if (num_queries == 0) return torch::zeros_like(in.q);
  if (plan.dense) return DenseAttention(in, plan, plan.visible.defined() ? plan.visible[0] : Tensor());
  if (plan.width == 0 && !in.memory_k.defined()) return torch::zeros_like(in.q);
  const double scale = 1.0 / std::sqrt(static_cast<double>(d));
  const int64_t blocks = plan.num_blocks, block = plan.block, width = plan.width;
  const int64_t padding = blocks * block - num_queries;
  const Tensor q = torch::constant_pad_nd(in.q, {0, 0, 0, padding}).view({n, heads, blocks, block, d});
  const Tensor index = plan.index.to(in.k.device());
  const Tensor k = in.k.index_select(2, index).view({n, heads, blocks, width, d});
  const Tensor v = in.v.index_select(2, index).view({n, heads, blocks, width, d});
  Tensor scores = torch::matmul(q, k.transpose(3, 4)).to(torch::kFloat) * scale;  // (N, H, blocks, block, width)
  const Tensor bias = KeyBias(in, plan);
  if (bias.defined()) scores = scores + bias.index_select(1, index).view({n, 1, blocks, 1, width});
  scores = scores.masked_fill(~plan.visible.to(scores.device()), kNever).clamp_min(kNever);
  Tensor memory;
  if (in.memory_k.defined()) {
    memory = torch::constant_pad_nd(MemoryScores(in, plan, scale), {0, 0, 0, padding});
    memory = memory.view({n, heads, blocks, block, memory.size(-1)});
  }
  const Softmax weights = Normalise(scores, memory);
  Tensor out =
      torch::matmul(weights.keys.to(v.scalar_type()), v).view({n, heads, blocks * block, d}).narrow(2, 0, num_queries);
  if (memory.defined()) {
    const Tensor w = weights.memory.reshape({n, heads, blocks * block, memory.size(-1)}).narrow(2, 0, num_queries);
    out = out + MemoryOutput(in, plan, w);
  }
  return out;
}

Tensor HybridAttentionReference(const AttentionInputs& in, const AttentionPlan& plan) {
  return DenseAttention(in, plan, DenseVisible(plan));
}

Tensor AttentionWeights(const AttentionInputs& in, const AttentionPlan& plan) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(in.q.size(3)));
  const Tensor memory = in.memory_k.defined() ? MemoryScores(in, plan, scale) : Tensor();
  return Normalise(DenseScores(in, plan, DenseVisible(plan)), memory).keys;
}

}  // namespace earshot
