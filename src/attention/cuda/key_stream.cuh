// The keys and values of a tile of queries, 64 entries at a time, gathered by row in the background: two stages of
// shared memory for the rows. Used by all threads of a block:
//
//   KeyStream<T, kPad> keys(problem, tile, kv_head, shared);
//   keys.LoadLeft(queries, ..., [&] { keys.Start(); });
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
  bool biased = false;   // entries add to logits
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

// Whether the row of a query, 0 or more, gets more than zeros.
__device__ __forceinline__ bool KeepsQuery(const CudaAttentionArguments& a, int row) {
  return !a.query_values || a.query_values[row] >= a.query_threshold;
}

// Queries [first, end) of a tile, as MaskPair takes them: their middle, and how far from it they lie. Both are exact.
inline constexpr uint32_t kEmptyRange = 0xE4000000;  // nothing is as near as -1024
__device__ __forceinline__ uint32_t RangeOf(int first, int end) {
  static_assert(kCudaTileQueries <= 512);
  if (first >= end) return kEmptyRange;
  return PackPair<Float16>(0.5F * static_cast<float>(first + end - 1), 0.5F * static_cast<float>(end - 1 - first));
}
// The first and the last of a range; far apart, the wrong way round, where it is empty.
__device__ __forceinline__ float FirstOf(uint32_t range) { return LowOf<Float16>(range) - HighOf<Float16>(range); }
__device__ __forceinline__ float LastOf(uint32_t range) { return LowOf<Float16>(range) + HighOf<Float16>(range); }

// The entries of a tile of queries in shared memory, 64 a step: of kDepth steps that are known, one is computed, the
// next ones are copied, and the last is just being made.
template <int kDepth>
class EntryRing {
 public:
  static constexpr int64_t kSharedBytes = kDepth * kTile * 12;

  __device__ __forceinline__ EntryRing(const Problem& problem, int tile, unsigned char* shared)
      : problem_(problem),
        rows_(reinterpret_cast<int32_t*>(shared)),
        ranges_(reinterpret_cast<uint32_t*>(rows_ + kDepth * kTile)),
        biases_(reinterpret_cast<float*>(ranges_ + kDepth * kTile)) {
    const int32_t begin = problem.arguments.lists.tile_offsets[tile];
    num_entries_ = problem.arguments.lists.tile_offsets[tile + 1] - begin;
    entries_ = problem.arguments.lists.entries + begin;
  }

  __device__ __forceinline__ int num_steps() const { return (num_entries_ + kTile - 1) / kTile; }

  // By all threads: makes the first kDepth - 1 steps known after the next barrier.
  template <int kBlockThreads>
  __device__ __forceinline__ void Start() {
    for (int i = static_cast<int>(threadIdx.x); i < (kDepth - 1) * kTile; i += kBlockThreads) {
      Load(i);
      PrepareNext();
      Put(i);
    }
    LoadNext(kDepth - 1);
  }
  // Asks for the biases that StoreNext will need.
  __device__ __forceinline__ void PrepareNext() {
    bias_ = row_ >= 0 ? EntryBias(problem_.arguments, row_, score_) : 0.F;
  }
  // Makes the entries of step known after the next barrier. Steps come in order, after those of Start.
  __device__ __forceinline__ void StoreNext(int step) {
    if (threadIdx.x >= kTile) return;
    Put(step % kDepth * kTile + static_cast<int>(threadIdx.x));
    LoadNext(step + 1);
  }

  // Of each entry: its row, -1 where there is none; its range, an empty one where there is none; and what it adds to
  // logits to base 2.
  __device__ __forceinline__ const int32_t* rows(int step) const { return rows_ + step % kDepth * kTile; }
  __device__ __forceinline__ const uint32_t* ranges(int step) const { return ranges_ + step % kDepth * kTile; }
  __device__ __forceinline__ const float* biases(int step) const { return biases_ + step % kDepth * kTile; }

 private:
  __device__ __forceinline__ void Load(int index) {
    row_ = -1, score_ = -1, range_ = kEmptyRange;
    if (index >= num_entries_) return;
    const CudaKeyEntry& entry = entries_[index];
    row_ = entry.row;
    range_ = RangeOf(entry.first, entry.end);
    if (problem_.arguments.scores) score_ = entry.score;
  }
  __device__ __forceinline__ void LoadNext(int step) {
    if (threadIdx.x < kTile) Load(step * kTile + static_cast<int>(threadIdx.x));
  }
  __device__ __forceinline__ void Put(int at) {
    SharedStore(rows_ + at, row_);
    SharedStore(ranges_ + at, range_);
    SharedStore(biases_ + at, bias_);
  }

  const Problem& problem_;
  int32_t* rows_;
  uint32_t* ranges_;
  float* biases_;
  const CudaKeyEntry* entries_;
  int num_entries_;
  // The entry that the thread will store next.
  int32_t row_ = -1, score_ = -1;
  uint32_t range_ = 0;
  float bias_ = 0;
};

template <class T, int kPad>
class KeyStream {
  static constexpr int kDepth = 3;

 public:
  static constexpr int64_t kSharedBytes = 4 * TileShape<kPad>::kElements * 2 + EntryRing<kDepth>::kSharedBytes;

  __device__ __forceinline__ KeyStream(const Problem& problem, int tile, int kv_head, unsigned char* shared)
      : problem_(problem),
        keys_(HeadOf(problem.arguments.k, kv_head, problem.arguments.head_dim, problem.fast)),
        values_(HeadOf(problem.arguments.v, kv_head, problem.arguments.head_dim, problem.fast)),
        tiles_(reinterpret_cast<uint16_t*>(shared)),
        entries_(problem, tile, shared + 4 * TileShape<kPad>::kElements * 2) {}

  __device__ __forceinline__ int num_steps() const { return entries_.num_steps(); }

  __device__ __forceinline__ void Start() {
    entries_.template Start<kThreads>();
    __syncthreads();
    Prefetch(0);
  }

  // Rows row_of(0), row_of(1), ... of a matrix into the registers of the warps that own them, before step 0 has
  // arrived: they pass through the stage of step 1. `meanwhile` commits one group of copies.
  template <int kGroups, class RowOf, class Meanwhile>
  __device__ __forceinline__ void LoadLeft(LeftRows<kPad, true, kGroups>& left, const Rows& rows,
                                           const Rotation& rotation, RowOf row_of, Meanwhile meanwhile) {
    constexpr int kLast = kGroups - 1;
    const auto last_row_of = [&](int r) { return row_of(kLast * kTile + r); };
    uint16_t* first_tile = key_rows(1);
    uint16_t* last_tile = first_tile + kLast * TileShape<kPad>::kElements;
    CopyTile<T, kPad>(first_tile, rows, rotation, row_of);
    if constexpr (kGroups > 1) CopyTile<T, kPad>(last_tile, rows, rotation, last_row_of);
    CommitCopies();
    TileRotation<T, kPad> first_rotation(rows, rotation, row_of), last_rotation(rows, rotation, last_row_of);
    meanwhile();
    WaitCopies<1>();
    first_rotation.Apply(first_tile);
    if constexpr (kGroups > 1) last_rotation.Apply(last_tile);
    __syncthreads();
    left.Load(first_tile);
  }

  __device__ __forceinline__ void Arrive(int step) {
    TileRotation<T, kPad> rotation(keys_, KeyRotation(problem_), RowOf(step));
    WaitCopies<0>();
    rotation.Apply(key_rows(step));
    __syncthreads();
  }

  __device__ __forceinline__ void Prefetch(int step) {
    if (step < num_steps()) {
      if (kPlain && problem_.fast && !problem_.arguments.rotary.cosines) {
        CopyPlainTiles(step);
      } else {
        CopyTile<T, kPad>(key_rows(step), keys_, KeyRotation(problem_), RowOf(step));
        CopyTile<T, kPad>(value_rows(step), values_, Rotation{nullptr, nullptr, nullptr}, RowOf(step));
      }
    }
    CommitCopies();
  }

  __device__ __forceinline__ void PrepareEntries() { entries_.PrepareNext(); }
  __device__ __forceinline__ void StoreEntries(int step) { entries_.StoreNext(step); }

  __device__ __forceinline__ uint16_t* key_rows(int step) const {
    return tiles_ + step % 2 * 2 * TileShape<kPad>::kElements;
  }
  __device__ __forceinline__ uint16_t* value_rows(int step) const {
    return key_rows(step) + TileShape<kPad>::kElements;
  }
  __device__ __forceinline__ const uint32_t* ranges(int step) const { return entries_.ranges(step); }
  __device__ __forceinline__ const float* biases(int step) const { return entries_.biases(step); }

 private:
  __device__ __forceinline__ auto RowOf(int step) const {
    const int32_t* rows = entries_.rows(step);
    return [rows](int r) { return SharedLoad(rows + r); };
  }

  // Both at once, where nothing rotates: what is common to them is computed once.
  static constexpr bool kPlain = kThreads % (kPad / 8) == 0;
  __device__ __forceinline__ void CopyPlainTiles(int step) {
    constexpr int kChunks = kPad / 8, kRowsATurn = kThreads / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks * 8, first = static_cast<int>(threadIdx.x) / kChunks;
    const bool inside = chunk < keys_.head_dim;
    uint16_t* to = key_rows(step) + first * TileShape<kPad>::kPitch + chunk;
    // All rows before the first copy: the two are not reordered.
    int rows[kTile / kRowsATurn];
    EARSHOT_UNROLL
    for (int i = 0; i < kTile / kRowsATurn; ++i) rows[i] = SharedLoad(entries_.rows(step) + first + i * kRowsATurn);
    EARSHOT_UNROLL
    for (int i = 0; i < kTile / kRowsATurn; ++i) {
      uint16_t* key = to + i * kRowsATurn * TileShape<kPad>::kPitch;
      CopyAsync<16>(key, keys_.At(rows[i], chunk), inside && rows[i] >= 0);
      CopyAsync<16>(key + TileShape<kPad>::kElements, values_.At(rows[i], chunk), inside && rows[i] >= 0);
    }
  }

  const Problem& problem_;
  Rows keys_, values_;
  uint16_t* tiles_;
  EntryRing<kDepth> entries_;
};

// Whether any, and whether each, of kUnit entries is seen by any, by each, of queries [first, end): the same for all
// lanes.
struct Sight {
  bool any, all;
};
__device__ __forceinline__ Sight SightOf(const uint32_t* ranges, int first, int end) {
  static_assert(kUnit == kWarp);
  const uint32_t range = SharedLoad(ranges + threadIdx.x % kWarp);
  const float from = FirstOf(range), to = LastOf(range);
  const auto low = static_cast<float>(first), high = static_cast<float>(end - 1);
  return {__any_sync(kAllLanes, from <= high && to >= low) != 0, __all_sync(kAllLanes, from <= low && to >= high) != 0};
}

// logits = sums log2_scale + bias of the entry.
template <int kColumns, int kGroups>
__device__ __forceinline__ void AddBiases(Sums<kGroups, kColumns>& sums, float log2_scale, const float* biases) {
  const int column = threadIdx.x % 4 * 2;
  EARSHOT_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    const Pair32 bias = SharedLoad(reinterpret_cast<const Pair32*>(biases + n * 8 + column));
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      sums[g][n][0] = sums[g][n][0] * log2_scale + bias.x;
      sums[g][n][1] = sums[g][n][1] * log2_scale + bias.y;
      sums[g][n][2] = sums[g][n][2] * log2_scale + bias.x;
      sums[g][n][3] = sums[g][n][3] * log2_scale + bias.y;
    }
  }
}

// -infinity where query and entry do not meet, of columns kFirst to kEnd - 1. `query` is the first of this lane's.
template <int kColumns, int kFirst = 0, int kEnd = kColumns, int kGroups>
__device__ __forceinline__ void MaskLogits(Sums<kGroups, kColumns>& logits, const uint32_t* ranges, int query) {
  const int column = threadIdx.x % 4 * 2;
  uint32_t rows[kGroups];
  EARSHOT_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    const auto row = static_cast<float>(query + g * kGroupRows);
    rows[g] = PackPair<Float16>(row, row + 8);
  }
  EARSHOT_UNROLL
  for (int n = kFirst / 8; n < kEnd / 8; ++n) {
    const PairBits of_two = SharedLoad(reinterpret_cast<const PairBits*>(ranges + n * 8 + column));
    EARSHOT_UNROLL
    for (int i = 0; i < 2; ++i) {
      EARSHOT_UNROLL
      for (int g = 0; g < kGroups; ++g)
        MaskPair(logits[g][n][i], logits[g][n][i + 2], rows[g], i == 0 ? of_two.x : of_two.y);
    }
  }
}

}  // namespace earshot::cuda
