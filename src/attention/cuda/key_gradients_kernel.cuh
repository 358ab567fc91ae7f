// The gradients of keys, values, biases and scores: a block computes a tile of keys for one kv head, a warp 16 of its
// keys. It goes through the segments of the transposed lists, in each through the parts of 64 queries that see any of
// its keys, and for each of them through the query heads of the kv head. All products are transposed: rows are keys,
// columns are queries.
#pragma once

#include "src/attention/cuda/gradients.cuh"

namespace earshot::cuda {

inline constexpr int kQueryParts = kCudaTileQueries / kTile;

// What each of the 64 keys has to do with a tile of queries.
struct SegmentTable {
  CudaQueryTile tile;
  uint32_t parts;          // CudaSegment::parts
  uint32_t bounds[kTile];  // first query | end << 16; 0: none
  float biases[kTile];     // added to logits, to base 2
  int32_t entries[kTile];  // the transposed entry, where its score wants a gradient; -1
};

template <int kPad>
struct KeyGradientsShape {
  // With few channels the keys and values stay in registers, and their tiles are the second stage's.
  static constexpr bool kHeld = kPad <= 64;
  static constexpr int kTiles = kHeld ? 4 : 6;  // of rows: two stages of queries and grads, keys and values
  static constexpr int64_t kStatistics = static_cast<int64_t>(kTiles) * TileShape<kPad>::kElements * 2;
  static constexpr int64_t kTables = kStatistics + 2 * kTile * sizeof(Pair32);
  static constexpr int64_t kSlotRows = kTables + 3 * sizeof(SegmentTable);
  static constexpr int64_t kSharedBytes = kSlotRows + kTile * sizeof(int32_t);
};

// The tiles of queries that see a tile of keys, one after the other, as KeyStream the other way round. A step is one
// segment, one part of its queries, and one query head.
struct QueryStep {
  int segment = 0, part = 0, head = 0;
};

template <class T, int kPad>
class QueryStream {
 public:
  using Shape = KeyGradientsShape<kPad>;

  __device__ __forceinline__ QueryStream(const GradientProblem& problem, int key_tile, int kv_head,
                                         unsigned char* shared)
      : problem_(problem),
        group_(problem.forward.arguments.heads / problem.forward.arguments.kv_heads),
        first_head_(kv_head * group_),
        tiles_(reinterpret_cast<uint16_t*>(shared)),
        statistics_(reinterpret_cast<Pair32*>(shared + Shape::kStatistics)),
        tables_(reinterpret_cast<SegmentTable*>(shared + Shape::kTables)),
        slot_rows_(reinterpret_cast<int32_t*>(shared + Shape::kSlotRows)) {
    const int32_t begin = problem.transposed.segment_offsets[key_tile];
    num_segments_ = problem.transposed.segment_offsets[key_tile + 1] - begin;
    segments_ = problem.transposed.segments + begin;
  }

  __device__ __forceinline__ int num_segments() const { return num_segments_; }
  __device__ __forceinline__ int32_t* slot_rows() const { return slot_rows_; }

  __device__ __forceinline__ uint16_t* query_rows(int step) const {
    return tiles_ + step % 2 * 2 * TileShape<kPad>::kElements;
  }
  __device__ __forceinline__ uint16_t* grad_rows(int step) const {
    return query_rows(step) + TileShape<kPad>::kElements;
  }
  __device__ __forceinline__ uint16_t* key_rows() const {
    return tiles_ + (Shape::kTiles - 2) * TileShape<kPad>::kElements;
  }
  __device__ __forceinline__ uint16_t* value_rows() const { return key_rows() + TileShape<kPad>::kElements; }
  __device__ __forceinline__ const Pair32* statistics(int step) const { return statistics_ + step % 2 * kTile; }
  __device__ __forceinline__ const SegmentTable& table(int segment) const { return tables_[segment % 3]; }

  // The table of the first segment is known.
  __device__ __forceinline__ QueryStep First() const { return {0, NextPart(0, 0), 0}; }
  // So is that of the segment after this one's, where there is one.
  __device__ __forceinline__ QueryStep After(const QueryStep& at) const {
    if (at.head + 1 < group_) return {at.segment, at.part, at.head + 1};
    const int part = NextPart(at.segment, at.part + 1);
    if (part < kQueryParts) return {at.segment, part, 0};
    return {at.segment + 1, at.segment + 1 < num_segments_ ? NextPart(at.segment + 1, 0) : 0, 0};
  }

  // A barrier; then step `index` is there, and the one before is no longer read.
  __device__ __forceinline__ void Arrive(const QueryStep& at, int index) {
    const Problem& p = problem_.forward;
    TileRotation<T, kPad> rotation(QueryRows(0), QueryRotation(p), RowOf(at));
    WaitCopies<0>();
    rotation.Apply(query_rows(index));
    __syncthreads();
  }

  __device__ __forceinline__ void Prefetch(const QueryStep& at, int index) {
    if (at.segment < num_segments_) {
      const CudaAttentionArguments& a = problem_.forward.arguments;
      const int head = first_head_ + at.head;
      const auto row_of = RowOf(at);
      CopyTile<T, kPad>(query_rows(index), QueryRows(head), QueryRotation(problem_.forward), row_of);
      CopyTile<T, kPad>(grad_rows(index), HeadOf(problem_.grad_out, head, a.head_dim, problem_.fast_grad_out),
                        Rotation{nullptr, nullptr, nullptr}, row_of);
      if (threadIdx.x < kTile) {
        const int r = static_cast<int>(threadIdx.x), row = row_of(r);
        const Pair32* from = problem_.statistics + static_cast<int64_t>(head) * a.num_queries;
        CopyAsync<8>(statistics_ + index % 2 * kTile + r, from + Max(row, 0), row >= 0);
      }
    }
    CommitCopies();
  }

  // By one warp: the table of a segment, known to the others after the next barrier.
  __device__ __forceinline__ void BuildTable(int index) {
    if (index >= num_segments_) return;
    SegmentTable& to = tables_[index % 3];
    const int lane = threadIdx.x % kWarp;
    for (int slot = lane; slot < kTile; slot += kWarp) {
      SharedStore(to.bounds + slot, 0U);
      SharedStore(to.biases + slot, 0.F);
      SharedStore(to.entries + slot, -1);
    }
    __syncwarp();
    const CudaSegment segment = segments_[index];
    for (int i = segment.begin + lane; i < segment.end; i += kWarp) {
      const CudaTransposedEntry entry = problem_.transposed.entries[i];
      if (entry.layer != segment.layer) continue;
      const float bias = EntryBias(problem_.forward.arguments, SharedLoad(slot_rows_ + entry.slot), entry.score);
      SharedStore(to.bounds + entry.slot, entry.first | static_cast<uint32_t>(entry.end) << 16);
      SharedStore(to.biases + entry.slot, bias);
      SharedStore(to.entries + entry.slot, problem_.entry_gradients && entry.score >= 0 ? i : -1);
    }
    if (lane > 0) return;
    const CudaQueryTile tile = problem_.forward.arguments.lists.tiles[segment.tile];
    SharedStore(&to.tile.first_query, tile.first_query);
    SharedStore(&to.tile.num_queries, tile.num_queries);
    SharedStore(&to.parts, uint32_t{segment.parts});
  }

 private:
  __device__ __forceinline__ Rows QueryRows(int head) const {
    return HeadOf(problem_.forward.arguments.q, head, problem_.forward.arguments.head_dim, problem_.forward.fast);
  }
  __device__ __forceinline__ int NextPart(int segment, int part) const {
    const uint32_t parts = SharedLoad(&table(segment).parts);
    while (part < kQueryParts && (parts >> part & 1) == 0) ++part;
    return part;
  }
  __device__ __forceinline__ auto RowOf(const QueryStep& at) const {
    const CudaQueryTile& tile = table(at.segment).tile;
    const int32_t first = SharedLoad(&tile.first_query) + at.part * kTile;
    const int32_t count = SharedLoad(&tile.num_queries) - at.part * kTile;
    return [first, count](int r) { return r < count ? first + r : -1; };
  }

  const GradientProblem& problem_;
  const int group_, first_head_;
  uint16_t* tiles_;
  Pair32* statistics_;
  SegmentTable* tables_;
  int32_t* slot_rows_;
  int num_segments_;
  const CudaSegment* segments_;
};

// Adds what 32 queries from `column` on of the step's part give to the sums of the warp's keys, and returns the sums of
// dS of this lane's two keys.
template <class T, int kPad, bool kHeld>
__device__ __forceinline__ Pair32 AddUnit(const GradientProblem& p, const QueryStream<T, kPad>& stream,
                                          const QueryStep& at, int index, int column, bool masked,
                                          const LeftRows<kPad, kHeld, 1>& keys, const LeftRows<kPad, kHeld, 1>& values,
                                          Sums<1, kPad>& grad_k, Sums<1, kPad>& grad_v) {
  const int lane = threadIdx.x % kWarp, slot = threadIdx.x / kWarp * kGroupRows + lane / 4;
  const SegmentTable& table = stream.table(at.segment);
  Sums<1, kUnit> weights, weight_grads;
  MultiplyByRows<T, kPad, kUnit>(weights, keys, stream.query_rows(index), column);
  MultiplyByRows<T, kPad, kUnit>(weight_grads, values, stream.grad_rows(index), column);
  float sums[2] = {0, 0};
  EARSHOT_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float bias = SharedLoad(table.biases + slot + 8 * half);
    const uint32_t both = SharedLoad(table.bounds + slot + 8 * half);
    const uint32_t first = both & 0xFFFF, count = (both >> 16) - first;
    EARSHOT_UNROLL
    for (int n = 0; n < kUnit / 8; ++n) {
      const int query = column + n * 8 + lane % 4 * 2;
      const Quad32 of_two = SharedLoad(reinterpret_cast<const Quad32*>(stream.statistics(index) + query));
      float& weight0 = weights[0][n][2 * half];
      float& weight1 = weights[0][n][2 * half + 1];
      weight0 = weight0 * p.forward.log2_scale + bias;
      weight1 = weight1 * p.forward.log2_scale + bias;
      if (masked) {
        const uint32_t low = static_cast<uint32_t>(at.part * kTile + query) - first;
        if (low >= count) weight0 = -INFINITY;
        if (low + 1 >= count) weight1 = -INFINITY;
      }
      WeightAndGradient(weight0, weight_grads[0][n][2 * half], of_two.x, of_two.y);
      WeightAndGradient(weight1, weight_grads[0][n][2 * half + 1], of_two.z, of_two.w);
      sums[half] += weight_grads[0][n][2 * half] + weight_grads[0][n][2 * half + 1];
    }
  }
  Packed<1, kUnit> packed;
  Pack<T, kUnit>(weights, packed);
  AddWeightedRows<T, kPad, kUnit>(grad_v, packed, stream.grad_rows(index), column);
  Pack<T, kUnit>(weight_grads, packed);
  AddWeightedRows<T, kPad, kUnit>(grad_k, packed, stream.query_rows(index), column);
  return {sums[0], sums[1]};
}

// Whether any, and whether all, of queries [first, end) are seen by any, by each, of the warp's 16 keys.
__device__ __forceinline__ Sight SightOfKeys(const SegmentTable& table, int first, int end) {
  const uint32_t both = SharedLoad(table.bounds + threadIdx.x / kWarp * kGroupRows + threadIdx.x % kGroupRows);
  const int from = static_cast<int>(both & 0xFFFF), to = static_cast<int>(both >> 16);
  return {__any_sync(kAllLanes, Max(from, first) < Min(to, end)) != 0,
          __all_sync(kAllLanes, from <= first && to >= end) != 0};
}

template <class T, int kPad>
__global__ void __launch_bounds__(kThreads, kPad <= 32 ? 3 : 2)
    KeyGradientsKernel(const __grid_constant__ GradientProblem p) {
  using Shape = KeyGradientsShape<kPad>;
  unsigned char* shared = DynamicShared<unsigned char>();
  const CudaAttentionArguments& a = p.forward.arguments;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int slot = warp * kGroupRows + lane / 4;  // and slot + 8

  QueryStream<T, kPad> stream(p, static_cast<int>(blockIdx.x), kv_head, shared);
  for (int i = threadIdx.x; i < kTile; i += kThreads) {
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kTile + i;
    SharedStore(stream.slot_rows() + i, at < a.num_keys ? p.transposed.row_order[at] : -1);
  }
  __syncthreads();
  const int32_t* slot_rows = stream.slot_rows();
  const auto row_of = [slot_rows](int r) { return SharedLoad(slot_rows + r); };
  Sums<1, kPad> grad_k = {}, grad_v = {};
  float grad_bias[2] = {0, 0};
  if (stream.num_segments() > 0) {
    LeftRows<kPad, Shape::kHeld, 1> keys, values;
    {
      const Rows key_rows = HeadOf(a.k, kv_head, a.head_dim, p.forward.fast);
      CopyTile<T, kPad>(stream.key_rows(), key_rows, KeyRotation(p.forward), row_of);
      CopyTile<T, kPad>(stream.value_rows(), HeadOf(a.v, kv_head, a.head_dim, p.forward.fast),
                        Rotation{nullptr, nullptr, nullptr}, row_of);
      CommitCopies();
      if (warp < 2) stream.BuildTable(warp);
      TileRotation<T, kPad> rotation(key_rows, KeyRotation(p.forward), row_of);
      __syncthreads();
      stream.Prefetch(stream.First(), 0);
      WaitCopies<1>();
      rotation.Apply(stream.key_rows());
      __syncthreads();
      keys.Load(stream.key_rows());
      values.Load(stream.value_rows());
    }
    QueryStep at = stream.First();
    float segment_sums[2] = {0, 0};
    for (int index = 0; at.segment < stream.num_segments(); ++index) {
      stream.Arrive(at, index);
      const QueryStep next = stream.After(at);
      stream.Prefetch(next, index + 1);
      EARSHOT_NO_UNROLL
      for (int column = 0; column < kTile; column += kUnit) {
        const int first = at.part * kTile + column;
        const Sight sight = SightOfKeys(stream.table(at.segment), first, first + kUnit);
        if (!sight.any) continue;
        const Pair32 sums = AddUnit<T, kPad>(p, stream, at, index, column, !sight.all, keys, values, grad_k, grad_v);
        segment_sums[0] += sums.x, segment_sums[1] += sums.y;
      }
      if (next.segment != at.segment) {
        EARSHOT_UNROLL
        for (int half = 0; half < 2; ++half) {
          const float sum = segment_sums[half];
          grad_bias[half] += sum;
          segment_sums[half] = 0;
          if (!p.entry_gradients) continue;
          const float of_row = RowSum(sum);
          const int entry = SharedLoad(stream.table(at.segment).entries + slot + 8 * half);
          if (lane % 4 == 0 && entry >= 0) p.entry_gradients[kv_head * a.lists.capacity + entry] = of_row;
        }
        // Not before the barrier of this segment's last step: the table of the one before may be read until then.
        if (warp == at.segment % kWarps) stream.BuildTable(at.segment + 2);
      }
      at = next;
    }
    WaitCopies<0>();
  }

  EARSHOT_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float sum = RowSum(grad_bias[half]);
    const int row = row_of(slot + 8 * half);
    if (p.grad_bias && lane % 4 == 0 && row >= 0) p.grad_bias[kv_head * p.bias_stride + row] = sum;
  }
  __syncthreads();
  float* staging = reinterpret_cast<float*>(shared) + warp * TileShape<kPad>::kStagingFloats;
  const auto row_of_warp = [&](int r) { return row_of(warp * kGroupRows + r); };
  WriteRows<T, kPad>(grad_v[0], 1.F, 1.F, staging, p.grad_v, kv_head, a.head_dim, p.fast_grad_v,
                     Rotation{nullptr, nullptr, nullptr}, row_of_warp);
  WriteRows<T, kPad>(grad_k[0], a.scale, a.scale, staging, p.grad_k, kv_head, a.head_dim, p.fast_grad_k,
                     KeyRotation(p.forward), row_of_warp);
}

// A thread adds up one score for one kv head.
template <int kScoreThreads>
__global__ void ScoreGradientsKernel(const __grid_constant__ GradientProblem p) {
  const int64_t score = static_cast<int64_t>(blockIdx.x) * kScoreThreads + threadIdx.x;
  if (score >= p.num_scores) return;
  const float* from = p.entry_gradients + blockIdx.y * p.forward.arguments.lists.capacity;
  float sum = 0;
  for (int32_t i = p.transposed.score_offsets[score]; i < p.transposed.score_offsets[score + 1]; ++i)
    sum += from[p.transposed.score_entries[i]];
  p.grad_scores[blockIdx.y * p.scores_stride + score] = sum;
}

}  // namespace earshot::cuda
