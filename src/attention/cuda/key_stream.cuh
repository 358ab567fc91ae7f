// The keys and values of a tile of queries, 64 entries at a time, gathered by row in the background: two stages of
// shared memory for the rows, three for the entries, which are known one step earlier. Used by all threads of a block:
//
//   KeyStream<T, kPad> keys(problem, tile, kv_head, shared);
//   keys.Start();
//   for (int t = 0; t < keys.num_steps(); ++t) {
//     keys.Arrive(t);               // a barrier; then step t is there and step t - 1 is no longer read
//     keys.Prefetch(t + 1);
//     keys.PrepareEntries();
//     ... keys.key_rows(t), keys.bounds(t), ...
//     keys.StoreEntries(t + 2);
//   }
#pragma once

#include "src/attention/cuda/tiles.cuh"

namespace earshot::cuda {

// The kernels' parameter: the arguments, and what the host found out about them.
struct Problem {
  CudaAttentionArguments arguments;
  bool fast = false;  // q, k and v: chunks of 8 channels are aligned, and so are those that rotate together
  bool fast_out = false;
  float log2_scale = 1;  // scale log2(e): logits are to base 2
};

__device__ __forceinline__ Rotation QueryRotation(const Problem& p) {
  return {p.arguments.rotary.cosines, p.arguments.rotary.sines, p.arguments.rotary.query_positions};
}
__device__ __forceinline__ Rotation KeyRotation(const Problem& p) {
  return {p.arguments.rotary.cosines, p.arguments.rotary.sines, p.arguments.rotary.key_positions};
}

// What an entry adds to logits, to base 2.
__device__ __forceinline__ float EntryBias(const CudaAttentionArguments& a, int row, int score) {
  float bias = 0;
  if (a.bias) bias += a.bias[row];
  if (a.scores && score >= 0) bias += a.scores[score];
  return bias * kLog2e;
}

template <class T, int kPad>
class KeyStream {
 public:
  static constexpr int64_t kSharedBytes = 4 * TileShape<kPad>::kElements * 2 + 3 * kTile * 12;

  __device__ __forceinline__ KeyStream(const Problem& problem, int tile, int kv_head, unsigned char* shared)
      : problem_(problem),
        keys_(HeadOf(problem.arguments.k, kv_head, problem.arguments.head_dim, problem.fast)),
        values_(HeadOf(problem.arguments.v, kv_head, problem.arguments.head_dim, problem.fast)),
        tiles_(reinterpret_cast<uint16_t*>(shared)),
        rows_(reinterpret_cast<int32_t*>(shared + 4 * TileShape<kPad>::kElements * 2)),
        bounds_(reinterpret_cast<uint32_t*>(rows_ + 3 * kTile)),
        biases_(reinterpret_cast<float*>(bounds_ + 3 * kTile)) {
    const int32_t begin = problem.arguments.lists.tile_offsets[tile];
    num_entries_ = problem.arguments.lists.tile_offsets[tile + 1] - begin;
    entries_ = problem.arguments.lists.entries + begin;
  }

  __device__ __forceinline__ int num_steps() const { return (num_entries_ + kTile - 1) / kTile; }

  __device__ __forceinline__ void Start() {
    LoadEntry(0);
    for (int step = 0; step < 2; ++step) {
      PrepareEntries();
      StoreEntries(step);
    }
    __syncthreads();
    Prefetch(0);
  }

  __device__ __forceinline__ void Arrive(int step) {
    TileRotation<T, kPad> rotation(keys_, KeyRotation(problem_), RowOf(step));
    WaitCopies<0>();
    rotation.Apply(key_rows(step));
    __syncthreads();
  }

  __device__ __forceinline__ void Prefetch(int step) {
    if (step < num_steps()) {
      CopyTile<T, kPad>(key_rows(step), keys_, KeyRotation(problem_), RowOf(step));
      CopyTile<T, kPad>(value_rows(step), values_, Rotation{nullptr, nullptr, nullptr}, RowOf(step));
    }
    CommitCopies();
  }

  // Asks for the biases that StoreEntries will need.
  __device__ __forceinline__ void PrepareEntries() {
    bias_ = row_ >= 0 ? EntryBias(problem_.arguments, row_, score_) : 0.F;
  }

  // Makes the entries of the step known after the next barrier. Steps come in order.
  __device__ __forceinline__ void StoreEntries(int step) {
    if (threadIdx.x >= kTile) return;
    const int at = step % 3 * kTile + static_cast<int>(threadIdx.x);
    SharedStore(rows_ + at, row_);
    SharedStore(bounds_ + at, bounds_of_entry_);
    SharedStore(biases_ + at, bias_);
    LoadEntry(step + 1);
  }

  __device__ __forceinline__ uint16_t* key_rows(int step) const {
    return tiles_ + step % 2 * 2 * TileShape<kPad>::kElements;
  }
  __device__ __forceinline__ uint16_t* value_rows(int step) const {
    return key_rows(step) + TileShape<kPad>::kElements;
  }
  // Of each entry: first query | end << 16, equal where nobody sees it, and what it adds to logits to base 2.
  __device__ __forceinline__ const uint32_t* bounds(int step) const { return bounds_ + step % 3 * kTile; }
  __device__ __forceinline__ const float* biases(int step) const { return biases_ + step % 3 * kTile; }

 private:
  __device__ __forceinline__ auto RowOf(int step) const {
    const int32_t* rows = rows_ + step % 3 * kTile;
    return [rows](int r) { return SharedLoad(rows + r); };
  }

  __device__ __forceinline__ void LoadEntry(int step) {
    const int index = step * kTile + static_cast<int>(threadIdx.x);
    row_ = -1, score_ = -1, bounds_of_entry_ = 0;
    if (threadIdx.x >= kTile || index >= num_entries_) return;
    const CudaKeyEntry entry = entries_[index];
    row_ = entry.row, score_ = entry.score;
    bounds_of_entry_ = entry.first | static_cast<uint32_t>(entry.end) << 16;
  }

  const Problem& problem_;
  Rows keys_, values_;
  uint16_t* tiles_;
  int32_t* rows_;
  uint32_t* bounds_;
  float* biases_;
  const CudaKeyEntry* entries_;
  int num_entries_;
  // The entry that the thread will store next.
  int32_t row_, score_;
  uint32_t bounds_of_entry_;
  float bias_;
};

// Whether any, and whether each, of 64 entries is seen by any, by each, of queries [first, end): the same for all
// lanes.
struct Sight {
  bool any, all;
};
__device__ __forceinline__ Sight SightOf(const uint32_t* bounds, int first, int end) {
  const int lane = threadIdx.x % kWarp;
  bool any = false, all = true;
  EARSHOT_UNROLL
  for (int i = 0; i < kTile; i += kWarp) {
    const uint32_t both = SharedLoad(bounds + i + lane);
    const int from = static_cast<int>(both & 0xFFFF), to = static_cast<int>(both >> 16);
    any = any || Max(from, first) < Min(to, end);
    all = all && from <= first && to >= end;
  }
  return {__any_sync(kAllLanes, any) != 0, __all_sync(kAllLanes, all) != 0};
}

// logits = sums log2_scale + bias of the entry; where `masked`, -infinity if query and entry do not meet. `query` is
// the first of this lane's two.
template <int kColumns>
__device__ __forceinline__ void FinishLogits(float (&sums)[kColumns / 8][4], float log2_scale, const float* biases,
                                             const uint32_t* bounds, bool masked, int query) {
  const int column = threadIdx.x % 4 * 2;
  EARSHOT_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    const Pair32 bias = SharedLoad(reinterpret_cast<const Pair32*>(biases + n * 8 + column));
    sums[n][0] = sums[n][0] * log2_scale + bias.x;
    sums[n][1] = sums[n][1] * log2_scale + bias.y;
    sums[n][2] = sums[n][2] * log2_scale + bias.x;
    sums[n][3] = sums[n][3] * log2_scale + bias.y;
  }
  if (!masked) return;
  EARSHOT_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    EARSHOT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const uint32_t both = SharedLoad(bounds + n * 8 + column + i);
      const int first = static_cast<int>(both & 0xFFFF), end = static_cast<int>(both >> 16);
      if (query < first || query >= end) sums[n][i] = -INFINITY;
      if (query + 8 < first || query + 8 >= end) sums[n][i + 2] = -INFINITY;
    }
  }
}

}  // namespace earshot::cuda
