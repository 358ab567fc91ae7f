// The backward pass of a unit, in float; see attention_kernel_lanes.h for who includes this. With P the weights, which
// the lse of the forward pass gives at once, and O the outputs,
//
//   dV = P^T dO,   dP = dO V^T,   dS = P (dP - D),  D_i = sum over channels of dO_i O_i,   dQ = dS K,   dK = dS^T Q
//
// (FlashAttention-2, Dao 2023, algorithm 2). Blocks of keys are the outer loop, so that nothing depends on how long
// the list is: the gradients of a block's keys are complete when it is left, those of the queries add up in a buffer.
#pragma once

#include "src/attention/attention_kernel_product.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

// What both kinds of backward pass know of the queries of a unit, of one head.
struct BackwardRows {
  float* lse = nullptr;  // (queries) times log2(e); infinity, so that all weights become 0, where a query sees nothing
  float* delta = nullptr;  // (queries) D
};

// Queries of a lse below see nothing but keys that biases of, say, -1e30 hide. A float of that size has no bits left
// for what their logits differ by, so no weight could be told from it; they pass no gradients on.
constexpr float kHidden = -1e6f;

// The products of d values of two rows, to be added up over the lanes.
EARSHOT_INLINE FloatVector MultiplyRows(KernelType type, const char* a, const char* b, int d) {
  FloatVector sums = {};
  int i = 0;
  const auto add = [&](auto load, auto load_one) {
    for (; i + kLanes <= d; i += kLanes) sums = sums + load(a, i) * load(b, i);
    for (; i < d; ++i) sums[0] += load_one(a, i) * load_one(b, i);
  };
  if (type == KernelType::kFloat) {
    const auto at = [](const char* row, int j) { return reinterpret_cast<const float*>(row) + j; };
    add([&](const char* row, int j) { return Load(at(row, j)); }, [&](const char* row, int j) { return *at(row, j); });
  } else {
    const auto at = [](const char* row, int j) { return reinterpret_cast<const uint16_t*>(row) + j; };
    add([&](const char* row, int j) { return LoadShorts(at(row, j)); },
        [&](const char* row, int j) { return FromShort(*at(row, j)); });
  }
  return sums;
}

// padded_queries: a multiple of 16.
inline void ComputeRows(const AttentionArguments& arguments, const AttentionGradients& gradients,
                        const KeyUnitView& unit, int head, int padded_queries, const BackwardRows& rows) {
  const int d = arguments.head_dim;
  const ConstHeadsView out = {arguments.out.data, arguments.out.frame_stride, arguments.out.head_stride};
  for (int first = 0; first < padded_queries; first += kLanes) {
    FloatVector products[kLanes] = {};
    for (int i = 0; i < kLanes; ++i) {
      const int r = first + i;
      rows.lse[r] = kInfinity;
      if (r >= unit.num_queries) continue;
      const int64_t frame = unit.first_query + r;
      if (r + 4 < unit.num_queries) {
        FetchRow(HeadRow(out, arguments.type, frame + 4, head), d, arguments.type);
        FetchRow(HeadRow(gradients.grad_out, arguments.type, frame + 4, head), d, arguments.type);
        FetchRow(HeadRow(arguments.q, arguments.type, frame + 4, head), d, arguments.type);
      }
      products[i] = MultiplyRows(arguments.type, HeadRow(out, arguments.type, frame, head),
                                 HeadRow(gradients.grad_out, arguments.type, frame, head), d);
      const float lse = arguments.lse[head * arguments.lse_stride + frame];
      rows.lse[r] = lse < kHidden ? kInfinity : lse * kLog2E;
    }
    Store(SumRows(products), rows.delta + first);
  }
}

// 2^x of a logit less the lse. No weight is above 1; huge logits that the forward pass rounded otherwise may seem so.
EARSHOT_INLINE FloatVector WeightOf(FloatVector x) { return Exp2<true>(x > 0 ? FloatVector{} : x); }

// Adds the finished sums of an entry to the caller's gradients. key, value: rows of sums; dS still lacks the scale.
EARSHOT_INLINE void AddToRow(const float* sums, float factor, int d, float* to) {
  int c = 0;
  for (; c + kLanes <= d; c += kLanes) Store(Load(to + c) + Load(sums + c) * Broadcast(factor), to + c);
  for (; c < d; ++c) to[c] += sums[c] * factor;
}
EARSHOT_INLINE void AddEntry(const AttentionArguments& arguments, const AttentionGradients& gradients,
                             const KeyEntry& entry, int kv_head, const float* key, const float* value, float logit) {
  const auto row_of = [&](const HeadsView& view) {
    return static_cast<float*>(view.data) + kv_head * view.head_stride + entry.row * view.frame_stride;
  };
  AddToRow(key, arguments.scale, arguments.head_dim, row_of(gradients.grad_k));
  AddToRow(value, 1, arguments.head_dim, row_of(gradients.grad_v));
  if (gradients.grad_bias != nullptr) gradients.grad_bias[kv_head * gradients.bias_stride + entry.row] += logit;
  if (gradients.grad_scores != nullptr && entry.score >= 0)
    gradients.grad_scores[kv_head * gradients.scores_stride + entry.score] += logit;
}

// What a block of keys needs at its end and the next one at its beginning: the gradients of `count` entries, and the
// keys and values of `next` behind them.
inline void PlanFetches(const AttentionArguments& arguments, const AttentionGradients& gradients, int kv_head,
                        const KeyEntry* entries, int count, int next, Prefetch& prefetch) {
  const int64_t size = arguments.type == KernelType::kFloat ? 4 : 2;
  const int d = arguments.head_dim;
  prefetch.Clear();
  for (int i = 0; i < next; i += kGroup)
    for (const ConstHeadsView* view : {&arguments.k, &arguments.v})
      prefetch.Add(HeadRow(*view, arguments.type, 0, kv_head), view->frame_stride * size, entries + count + i,
                   Least(kGroup, next - i), d * static_cast<int>(size));
  for (int i = 0; i < count; i += kGroup)
    for (const HeadsView* view : {&gradients.grad_k, &gradients.grad_v})
      prefetch.Add(static_cast<const char*>(view->data) + kv_head * view->head_stride * 4, view->frame_stride * 4,
                   entries + i, Least(kGroup, count - i), d * 4);
}

class BackwardPass {
 public:
  BackwardPass(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnitView& unit,
               int kv_head, AttentionScratch& scratch)
      : arguments_(arguments),
        gradients_(gradients),
        unit_(unit),
        kv_head_(kv_head),
        d_(arguments.head_dim),
        cells_(ValueCells(arguments.head_dim)),
        padded_queries_(RoundUp(unit.num_queries, kRows)) {
    Arena measure(nullptr);
    Allocate(measure);
    Arena arena(scratch.Reserve(measure.used()));
    Allocate(arena);
  }

  void Run() {
    const int of_group = arguments_.heads / arguments_.kv_heads;
    for (int head = kv_head_ * of_group; head < (kv_head_ + 1) * of_group; ++head) {
      ComputeRows(arguments_, gradients_, unit_, head, padded_queries_, rows_);
      ZeroRow(padded_queries_ * cells_, grad_q_);
      for (int64_t first = 0; first < unit_.num_keys; first += kBlockKeys) {
        const int64_t left = unit_.num_keys - first;
        ComputeBlock(head, unit_.keys + first, CountOf(left), CountOf(left - kBlockKeys));
      }
      for (int r = 0; r < unit_.num_queries; ++r) {
        const int64_t frame = unit_.first_query + r;
        WriteRow(grad_q_ + static_cast<std::ptrdiff_t>(r) * cells_, arguments_.scale, d_, arguments_.type,
                 gradients_.grad_q.data, frame * gradients_.grad_q.frame_stride + head * gradients_.grad_q.head_stride);
      }
    }
  }

 private:
  static constexpr int kRows = 16, kBlockGroups = 2, kBlockKeys = kBlockGroups * kGroup;
  static constexpr int kStripStep = kBlockKeys + 16;

  void Allocate(Arena& arena) {
    chunk_.keys = arena.Take<float>(kBlockKeys * cells_);
    values_ = arena.Take<float>(kBlockKeys * cells_);
    key_rows_ = arena.Take<float>(kBlockKeys * cells_);
    grad_k_ = arena.Take<float>(kBlockKeys * cells_);
    grad_v_ = arena.Take<float>(kBlockKeys * cells_);
    grad_logits_ = arena.Take<float>(kBlockKeys);
    chunk_.bias = arena.Take<float>(kBlockKeys);
    chunk_.first = arena.Take<int32_t>(kBlockKeys);
    chunk_.end = arena.Take<int32_t>(kBlockKeys);
    chunk_.ranges = arena.Take<GroupRanges>(1);
    rows_.lse = arena.Take<float>(padded_queries_);
    rows_.delta = arena.Take<float>(padded_queries_);
    grad_q_ = arena.Take<float>(static_cast<int64_t>(padded_queries_) * cells_);
  }

  // keys and values both as (groups, d, 16), and keys as rows.
  void PackBlock(const KeyEntry* entries, int count) {
    GroupRows<Cell::kFloat> group_rows;
    chunk_.entries = entries;
    chunk_.count = count;
    chunk_.num_groups = (count + kGroup - 1) / kGroup;
    for (int g = 0; g < chunk_.num_groups; ++g) {
      PackEntries(arguments_, g, chunk_);
      const int width = Least(kGroup, count - g * kGroup);
      const auto frame_of = [&](int i) { return static_cast<int64_t>(entries[g * kGroup + i].row); };
      group_rows.Set(arguments_.v, arguments_.type, kv_head_, d_, cells_, width, frame_of);
      TransposeGroup(group_rows.rows, cells_, values_ + g * kGroup * cells_);
      group_rows.Set(arguments_.k, arguments_.type, kv_head_, d_, cells_, width, frame_of);
      TransposeGroup(group_rows.rows, cells_, chunk_.keys + g * kGroup * cells_);
      for (int i = 0; i < kGroup; ++i) CopyRow(group_rows.rows[i], cells_, key_rows_ + (g * kGroup + i) * cells_);
    }
  }

  // kRows queries of a matrix: where they lie, or copies of them where they need to be converted or filled up.
  struct Rows {
    const float* at = nullptr;
    std::ptrdiff_t step = 0;
  };
  Rows LoadTile(const ConstHeadsView& view, int head, int first_row, float* copies) const {
    if (arguments_.type == KernelType::kFloat && cells_ == d_ && first_row + kRows <= unit_.num_queries)
      return {reinterpret_cast<const float*>(HeadRow(view, arguments_.type, unit_.first_query + first_row, head)),
              static_cast<std::ptrdiff_t>(view.frame_stride)};
    for (int r = 0; r < kRows; ++r) {
      const int64_t frame = unit_.first_query + first_row + r;
      if (first_row + r < unit_.num_queries) {
        LoadRow<Cell::kFloat>(arguments_.type, HeadRow(view, arguments_.type, frame, head), d_, cells_,
                              copies + r * kRowStep);
      } else {
        ZeroRow(cells_, copies + r * kRowStep);
      }
    }
    return {copies, kRowStep};
  }

  // kMicroRows queries from row r on x the packed keys or values of groups.
  template <int kGroups, class Sums>
  EARSHOT_INLINE void Multiply(const Rows& rows, int r, const float* packed, const GroupVectors<kGroups>& vectors,
                               Sums& sums) {
    const float* of_vector[GroupVectors<kGroups>::kCount];
    vectors.Find(packed, cells_, of_vector);
    AddProduct<Cell::kFloat>(sums, rows.at + r * rows.step, rows.step, 1, of_vector, kGroup, d_);
  }

  // weights_ and grad_logits of the tile and of groups.
  template <bool kCut, int kGroups>
  EARSHOT_INLINE void Weigh(const int16_t* groups, int first_row) {
    const GroupVectors<kGroups> vectors(groups);
    constexpr int kVectors = GroupVectors<kGroups>::kCount;
    const FloatVector scale = Broadcast(arguments_.scale * kLog2E);
    for (int r = 0; r < kRows; r += kMicroRows) {
      {
        FloatVector sums[kMicroRows][kVectors] = {};
        Multiply(queries_, r, chunk_.keys, vectors, sums);
#pragma GCC unroll 8
        for (int i = 0; i < kMicroRows; ++i) {
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            const int at = vectors.Key(v), row = first_row + r + i;
            const FloatVector x = sums[i][v] * scale + Load(chunk_.bias + at) - Broadcast(rows_.lse[row]);
            FloatVector weights = WeightOf(x);
            if (kCut) weights = KeepWhere(Visible(chunk_.first + at, chunk_.end + at, row), weights);
            Store(weights, weights_ + (r + i) * kStripStep + at);
          }
        }
      }
      FloatVector sums[kMicroRows][kVectors] = {};
      Multiply(grad_out_, r, values_, vectors, sums);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int at = vectors.Key(v);
        FloatVector of_keys = Load(grad_logits_ + at);
#pragma GCC unroll 8
        for (int i = 0; i < kMicroRows; ++i) {
          const FloatVector grad =
              Load(weights_ + (r + i) * kStripStep + at) * (sums[i][v] - Broadcast(rows_.delta[first_row + r + i]));
          Store(grad, grads_ + (r + i) * kStripStep + at);
          of_keys = of_keys + grad;
        }
        Store(of_keys, grad_logits_ + at);
      }
    }
  }

  template <int kVectors>
  EARSHOT_INLINE void AddQueryColumns(const VisibleGroups& visible, int first_row, int c) {
    for (int r = 0; r < kRows; r += kMicroRows) {
      float* to = grad_q_ + static_cast<std::ptrdiff_t>(first_row + r) * cells_ + c;
      FloatVector sums[kMicroRows][kVectors];
      LoadSums(to, cells_, sums);
#pragma GCC unroll 1
      for (int i = 0; i < visible.count; ++i) {
        const int key = visible.group[i] * kGroup;
        AddProduct<Cell::kFloat>(sums, grads_ + r * kStripStep + key, kStripStep, 1, key_rows_ + key * cells_ + c,
                                 cells_, kGroup);
      }
      StoreSums(sums, to, cells_);
    }
  }

  // to: rows of sums of the block's keys += strip^T rows.
  template <int kVectors>
  EARSHOT_INLINE void AddKeyColumns(const VisibleGroups& visible, const float* strip, const Rows& rows, int c,
                                    float* to) {
#pragma GCC unroll 1
    for (int i = 0; i < visible.count; ++i) {
#pragma GCC unroll 1
      for (int key = visible.group[i] * kGroup; key < (visible.group[i] + 1) * kGroup; key += kMicroRows) {
        FloatVector sums[kMicroRows][kVectors];
        LoadSums(to + key * cells_ + c, cells_, sums);
        AddProduct<Cell::kFloat>(sums, strip + key, 1, kStripStep, rows.at + c, rows.step, kRows);
        StoreSums(sums, to + key * cells_ + c, cells_);
      }
    }
  }

  template <int kVectors>
  EARSHOT_INLINE void AddColumns(const VisibleGroups& visible, int first_row, int c) {
    AddQueryColumns<kVectors>(visible, first_row, c);
    AddKeyColumns<kVectors>(visible, weights_, grad_out_, c, grad_v_);
    AddKeyColumns<kVectors>(visible, grads_, queries_, c, grad_k_);
  }

  void ComputeTile(const VisibleGroups& visible, int first_row) {
    ForGroupsTogether(visible.cut, visible.count, [&]<int kGroups>(Together<kGroups>, int i, bool any_cut) {
      if (any_cut) {
        Weigh<true, kGroups>(visible.group + i, first_row);
      } else {
        Weigh<false, kGroups>(visible.group + i, first_row);
      }
    });
    int c = 0;
    for (; c + kValueVectors * kLanes <= cells_; c += kValueVectors * kLanes)
      AddColumns<kValueVectors>(visible, first_row, c);
    if (kValueVectors * kLanes > kGroup && c < cells_) AddColumns<kVectorsOfGroup>(visible, first_row, c);
  }

  static int CountOf(int64_t left) { return left <= 0 ? 0 : left < kBlockKeys ? static_cast<int>(left) : kBlockKeys; }

  void ComputeBlock(int head, const KeyEntry* entries, int count, int next) {
    PackBlock(entries, count);
    PlanFetches(arguments_, gradients_, kv_head_, entries, count, next, prefetch_);
    prefetch_.Spread(8);
    ZeroRow(kBlockKeys * cells_, grad_k_);
    ZeroRow(kBlockKeys * cells_, grad_v_);
    ZeroRow(kBlockKeys, grad_logits_);
    VisibleGroups visible;
    for (int first_row = 0; first_row < unit_.num_queries; first_row += kRows) {
      FindVisible(*chunk_.ranges, chunk_.num_groups, first_row, Least(first_row + kRows, unit_.num_queries), visible);
      if (visible.count == 0) continue;
      prefetch_.Step();
      queries_ = LoadTile(arguments_.q, head, first_row, query_copies_);
      grad_out_ = LoadTile(gradients_.grad_out, head, first_row, grad_copies_);
      ComputeTile(visible, first_row);
    }
    for (int i = 0; i < count; ++i)
      AddEntry(arguments_, gradients_, entries[i], kv_head_, grad_k_ + i * cells_, grad_v_ + i * cells_,
               grad_logits_[i]);
  }

  const AttentionArguments& arguments_;
  const AttentionGradients& gradients_;
  const KeyUnitView& unit_;
  int kv_head_, d_, cells_, padded_queries_;
  BackwardRows rows_;
  KeyChunk chunk_;  // a block: keys, and no values
  Prefetch prefetch_;
  float* values_ = nullptr;    // (groups, d, 16)
  float* key_rows_ = nullptr;  // (keys, ValueCells), as the gradients below
  float* grad_k_ = nullptr;
  float* grad_v_ = nullptr;
  float* grad_logits_ = nullptr;  // (keys)
  float* grad_q_ = nullptr;       // (queries, ValueCells)
  Rows queries_, grad_out_;       // of the tile
  alignas(64) float query_copies_[kRows * kRowStep];
  alignas(64) float grad_copies_[kRows * kRowStep];
  alignas(64) float weights_[kRows * kStripStep];  // P
  alignas(64) float grads_[kRows * kStripStep];    // dS
};

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
