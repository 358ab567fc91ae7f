// The backward pass on compute capability 9.0 (hopper.cuh) for windows: a pattern of one term that shows each query a
// run of positions round its own. One kernel goes by tiles of keys and has all gradients of what it computed: 5
// products for each pair of tiles, where kernels for queries and for keys need 3 and 4.
//
// A block goes through a run of keys of one utterance and head, 128 at a time, 64 for each of two groups of warps, and
// for these through the parts of 64 queries that see any of them. Gradients of keys and values stay in the registers of
// those groups, which hand the gradients of logits over to a third one, for those of queries. These stay in shared
// memory, since the next keys are seen by nearly the same queries, and leave it once the last keys of a part have been
// there. Keys behind both ends of the run, which its queries see as well, are computed for their sake alone, by the
// blocks on both sides of the end: so nobody adds to what another block wrote.
#pragma once

#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/hopper.cuh"
#include "src/attention/cuda/step_hopper.cuh"
#include "src/attention/cuda/terms.cuh"

namespace earshot::cuda {

struct HopperWindowShape {
  static constexpr int kPair = Hopper::kGroups * kTile;  // keys of a pair of tiles
  // Parts whose gradients wait for the next pair, and parts whose statistics are known.
  static constexpr int kLive = 4, kParts = 8;
  // Two groups for keys, one for queries, and one that brings: three of its warps steps, the fourth keys and values.
  static constexpr int kThreads = (Hopper::kGroups + 2) * Hopper::kGroupThreads;
  static_assert(Hopper::kStages + 1 == Hopper::kGroupWarps);
  static constexpr int kKeyRegisters = 192, kQueryRegisters = 88, kBringing = 40;
  static_assert(2 * kKeyRegisters + kQueryRegisters + kBringing <= 65536 / Hopper::kGroupThreads);

  // 64 queries, and what they have to do with the pair.
  struct alignas(16) Step {
    uint32_t flags;
    int32_t part, statistics;  // as of WindowWalk
  };
  // Bit kSees + g: the queries see keys of group g. Their gradients are the block's to write; no pair behind this one
  // sees them; it is the last step of the pair; of all.
  static constexpr int kSees = 0;
  static constexpr uint32_t kOwnPart = 4, kLastVisit = 8, kLastOfPair = 16, kLast = 32;
  struct alignas(16) Pair {
    CudaUtterance utterance;
    int32_t pair;
    int32_t head;  // negative, ~head: the gradients of the keys are another block's to write
  };
  struct alignas(16) Statistics {
    float lse[kTile], minus_d[kTile];  // as of GradientProblem::statistics
  };
  struct Small {
    HopperRings rings;  // of steps, and of pairs
    HopperRing<kParts> parts;
    HopperRing<2> handed;
    Step steps[Hopper::kStages];
    Pair pairs[2];
    Statistics statistics[kParts];
  };
  // Queries and their gradients of each stage; keys and values of both groups, of this pair and of the next; gradients
  // of logits of both groups, of this step and of the next.
  static constexpr int kStageTiles = 2 * Hopper::kStages, kItemTiles = 2 * 2 * Hopper::kGroups;
  static constexpr int kTiles = kStageTiles + kItemTiles + 2 * Hopper::kGroups;
  static constexpr int64_t kLiveBytes = int64_t{kTile} * Hopper::kDim * 4;
  static constexpr int64_t kStaging = int64_t{kTiles} * Hopper::kTileBytes + kLive * kLiveBytes;
  static constexpr int64_t kSmall = kStaging + Hopper::kGroupWarps * Hopper::kStagingBytes;
  static constexpr int64_t kSharedBytes = kSmall + int64_t{sizeof(Small)};
};

class WindowStages {
  using Shape = HopperWindowShape;

 public:
  __device__ __forceinline__ explicit WindowStages(unsigned char* shared)
      : tiles_(reinterpret_cast<uint16_t*>(shared)), small_(*reinterpret_cast<Shape::Small*>(shared + Shape::kSmall)) {}
  __device__ __forceinline__ void Init() const {
    if (threadIdx.x == 0) {
      constexpr int kOfKeys = Hopper::kGroups * Hopper::kGroupWarps, kOfQueries = Hopper::kGroupWarps;
      small_.rings.stages.Init(kOfKeys);
      small_.rings.items.Init(kOfKeys + kOfQueries);
      small_.parts.Init(kOfKeys, kOfQueries);
      small_.handed.Init(kOfQueries, kOfKeys);
    }
    __syncthreads();
  }

  __device__ __forceinline__ HopperRing<Hopper::kStages>& steps() const { return small_.rings.stages; }
  __device__ __forceinline__ uint16_t* query_rows(StagePlace at) const { return Tile(at.buffer() * 2); }
  __device__ __forceinline__ uint16_t* grad_rows(StagePlace at) const { return Tile(at.buffer() * 2 + 1); }
  __device__ __forceinline__ Shape::Step* step(StagePlace at) const { return small_.steps + at.buffer(); }

  __device__ __forceinline__ HopperRing<2>& pairs() const { return small_.rings.items; }
  __device__ __forceinline__ Shape::Pair* pair(int turn) const { return small_.pairs + turn % 2; }
  __device__ __forceinline__ uint16_t* key_rows(int turn, int group) const {
    return Tile(Shape::kStageTiles + (turn % 2 * Hopper::kGroups + group) * 2);
  }
  __device__ __forceinline__ uint16_t* value_rows(int turn, int group) const {
    return key_rows(turn, group) + Hopper::kTileElements;
  }

  __device__ __forceinline__ HopperRing<Shape::kParts>& parts() const { return small_.parts; }
  __device__ __forceinline__ Shape::Statistics& statistics(int part) const {
    return small_.statistics[part % Shape::kParts];
  }

  // Gradients of logits, a row for each key, of the steps that hand them over.
  __device__ __forceinline__ HopperRing<2>& handed() const { return small_.handed; }
  __device__ __forceinline__ uint16_t* handed_rows(int handed, int group) const {
    return Tile(Shape::kStageTiles + Shape::kItemTiles + handed % 2 * Hopper::kGroups + group);
  }
  // What a thread of the group for queries keeps of the gradients of a part's, in eight pieces: zeros before the first
  // pair that sees it.
  __device__ __forceinline__ Quad32* live(int part, int piece) const {
    auto* all = reinterpret_cast<Quad32*>(Tile(Shape::kTiles));
    return all + (part % Shape::kLive * 8 + piece) * Hopper::kGroupThreads +
           static_cast<int>(threadIdx.x) % Hopper::kGroupThreads;
  }
  // Of a warp of the group for queries.
  __device__ __forceinline__ unsigned char* staging(int warp) const {
    return reinterpret_cast<unsigned char*>(tiles_) + Shape::kStaging + warp * Hopper::kStagingBytes;
  }

 private:
  __device__ __forceinline__ uint16_t* Tile(int tile) const { return tiles_ + tile * Hopper::kTileElements; }

  uint16_t* tiles_;
  Shape::Small& small_;
};

// Parts of 64 queries of an utterance that see any of these positions by the term.
__host__ __device__ __forceinline__ Run PartsOf(const CudaTerm& term, int32_t first, int32_t last, int32_t length) {
  return {QueriesOf(term, first, 0, length).first / kTile, (QueriesOf(term, last, 0, length).end - 1) / kTile + 1};
}

// The steps of a block, one after the other: items, pairs of key tiles, parts of queries. All warps go the same way.
class WindowWalk {
  using Shape = HopperWindowShape;

 public:
  __device__ __forceinline__ WindowWalk(const GradientProblem& p, int items)
      : p_(p), items_(items), item_(static_cast<int>(blockIdx.x)) {
    ReadItem();
  }
  __device__ __forceinline__ bool AtEnd() const { return item_ >= items_; }
  __device__ __forceinline__ void Advance() {
    if (++part_ < parts_.end) return;
    ++turn_, ++pair_;
    if (pair_ < end_pair_) {
      parts_ = next_;
      SetPair();
      return;
    }
    statistics_ += end_part_ - first_part_;
    item_ += static_cast<int>(gridDim.x);
    ReadItem();
  }

  __device__ __forceinline__ int start() const { return run_.start; }
  __device__ __forceinline__ int length() const { return run_.length; }
  __device__ __forceinline__ int last_row() const { return run_.start + run_.length - 1; }
  __device__ __forceinline__ int head() const { return head_; }
  __device__ __forceinline__ int turn() const { return turn_; }  // counts pairs
  __device__ __forceinline__ int pair() const { return pair_; }
  __device__ __forceinline__ int part() const { return part_; }
  __device__ __forceinline__ bool first_of_pair() const { return part_ == parts_.first; }
  __device__ __forceinline__ bool last_of_pair() const { return part_ + 1 == parts_.end; }
  // Whether the gradients of the pair's keys, and of the part's queries, are the block's to write.
  __device__ __forceinline__ bool own_pair() const { return pair_ >= run_.first_pair && pair_ < run_.end_pair; }
  __device__ __forceinline__ bool own_part() const { return part_ >= own_parts_.first && part_ < own_parts_.end; }
  // No pair behind this one sees the part.
  __device__ __forceinline__ bool last_visit() const { return part_ < next_.first || part_ >= next_.end; }
  // Whether the part sees any key of the group.
  __device__ __forceinline__ bool Sees(int group) const {
    return part_ >= (group == 0 ? seen_by_[0].first : seen_by_[1].first) &&
           part_ < (group == 0 ? seen_by_[0].end : seen_by_[1].end);
  }
  // Counts parts, as their statistics are made: this one, that of the item's first part, and the ends of those that the
  // pair needs, and of those that it or the next one needs.
  __device__ __forceinline__ int statistics() const { return StatisticsOf(part_); }
  __device__ __forceinline__ int first_statistics() const { return statistics_; }
  __device__ __forceinline__ int end_statistics() const { return StatisticsOf(parts_.end); }
  __device__ __forceinline__ int end_next_statistics() const { return StatisticsOf(Max(parts_.end, next_.end)); }
  __device__ __forceinline__ int first_part() const { return first_part_; }
  __device__ __forceinline__ bool last_of_all() const {
    return last_of_pair() && pair_ + 1 == end_pair_ && item_ + static_cast<int>(gridDim.x) >= items_;
  }

 private:
  __device__ __forceinline__ int StatisticsOf(int part) const { return statistics_ + part - first_part_; }
  __device__ __forceinline__ void ReadItem() {
    if (AtEnd()) return;
    const int heads = p_.forward.arguments.heads, run = item_ / heads;
    head_ = item_ - run * heads;
    run_ = p_.window_runs[run];
    const CudaTerm& term = p_.window.term;
    own_parts_ = {2 * run_.first_pair, Min(2 * run_.end_pair, (run_.length - 1) / kTile + 1)};
    const int first = own_parts_.first * kTile, end = Min(own_parts_.end * kTile, run_.length);
    // The keys that its queries see, its own ones among them.
    const Run keys = PositionsOf(term, first, end - first, run_.length);
    pair_ = keys.first / Shape::kPair, end_pair_ = (keys.end - 1) / Shape::kPair + 1;
    const Run of_keys = PartsOf(term, first, end - 1, run_.length);
    first_part_ = of_keys.first, end_part_ = of_keys.end;
    parts_ = PartsOfPair(pair_);
    SetPair();
  }
  // Of the pair of this one's own parts alone, where its keys are not its own.
  __device__ __forceinline__ Run PartsOfPair(int pair) const {
    const int first = pair * Shape::kPair, last = Min(first + Shape::kPair, run_.length) - 1;
    const Run parts = PartsOf(p_.window.term, first, last, run_.length);
    if (pair >= run_.first_pair && pair < run_.end_pair) return parts;
    return {Max(parts.first, own_parts_.first), Min(parts.end, own_parts_.end)};
  }
  __device__ __forceinline__ void SetPair() {
    part_ = parts_.first;
    next_ = pair_ + 1 < end_pair_ ? PartsOfPair(pair_ + 1) : Run{0, 0};
    EARSHOT_UNROLL
    for (int group = 0; group < Hopper::kGroups; ++group) {
      const int first = pair_ * Shape::kPair + group * kTile, last = Min(first + kTile, run_.length) - 1;
      seen_by_[group] = first <= last ? PartsOf(p_.window.term, first, last, run_.length) : Run{0, 0};
    }
  }

  const GradientProblem& p_;
  const int items_;
  int item_, head_ = 0, turn_ = 0, statistics_ = 0;
  WindowRun run_ = {};
  Run own_parts_ = {};
  int first_part_ = 0, end_part_ = 0;  // of all parts of the item
  int pair_ = 0, end_pair_ = 0, part_ = 0;
  Run parts_ = {}, next_ = {};  // of the pair, and of the next
  Run seen_by_[Hopper::kGroups] = {};
};

// What the warps that bring do.
class WindowBringer {
  using Shape = HopperWindowShape;

 public:
  __device__ __forceinline__ WindowBringer(const GradientProblem& p, const WindowStages& stages)
      : p_(p), stages_(stages) {}

  // Every kStages-th step, from `first` on.
  __device__ __forceinline__ void BringSteps(int items, int first) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    StagePlace at = 0;
    for (WindowWalk walk(p_, items); !walk.AtEnd(); walk.Advance(), at.Advance()) {
      if (at.buffer() != first) continue;
      const int row = walk.start() + walk.part() * kTile;
      stages_.steps().WaitUntilFree(at);
      BringRows(stages_.query_rows(at), HeadOf(a.q, walk.head(), a.head_dim, true), row, walk.last_row());
      BringRows(stages_.grad_rows(at), HeadOf(p_.grad_out, walk.head(), a.head_dim, true), row, walk.last_row());
      CommitCopies();
      const uint32_t flags = (walk.Sees(0) ? 1U : 0U) << Shape::kSees | (walk.Sees(1) ? 2U : 0U) << Shape::kSees |
                             (walk.own_part() ? Shape::kOwnPart : 0U) | (walk.last_visit() ? Shape::kLastVisit : 0U) |
                             (walk.last_of_pair() ? Shape::kLastOfPair : 0U) | (walk.last_of_all() ? Shape::kLast : 0U);
      if (threadIdx.x % kWarp == 0) SharedStore(stages_.step(at), Shape::Step{flags, walk.part(), walk.statistics()});
      stages_.steps().SayFull(at);
    }
  }

  __device__ __forceinline__ void BringPairs(int items) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    for (WindowWalk walk(p_, items); !walk.AtEnd(); walk.Advance()) {
      if (!walk.first_of_pair()) continue;
      const int turn = walk.turn();
      stages_.pairs().WaitUntilFree(turn);
      EARSHOT_UNROLL
      for (int group = 0; group < Hopper::kGroups; ++group) {
        const int row = walk.start() + walk.pair() * Shape::kPair + group * kTile;
        BringRows(stages_.key_rows(turn, group), HeadOf(a.k, walk.head(), a.head_dim, true), row, walk.last_row());
        BringRows(stages_.value_rows(turn, group), HeadOf(a.v, walk.head(), a.head_dim, true), row, walk.last_row());
      }
      CommitCopies();
      if (threadIdx.x % kWarp == 0) {
        SharedStore(
            stages_.pair(turn),
            Shape::Pair{{walk.start(), walk.length()}, walk.pair(), walk.own_pair() ? walk.head() : ~walk.head()});
      }
      stages_.pairs().SayFull(turn);
    }
  }

 private:
  const GradientProblem& p_;
  const WindowStages& stages_;
};

// What a warp of the groups for keys does, for 16 of them.
template <class T>
class WindowKeyGradients {
  using Shape = HopperWindowShape;

 public:
  __device__ __forceinline__ WindowKeyGradients(const GradientProblem& p, const WindowStages& stages)
      : p_(p), stages_(stages), scale_(p.forward.biased ? 1.F : p.forward.log2_scale) {}

  __device__ __forceinline__ void Compute() {
    StagePlace at = 0;
    int turn = 0;
    for (bool end = false; !end; ++turn) {
      Sums<1, Hopper::kDim> grad_k = {}, grad_v = {};
      stages_.pairs().WaitUntilFull(turn);
      const Shape::Pair pair = SharedLoad(stages_.pair(turn));
      BeginPair(pair);
      HeldStage held;
      for (bool last = false; !last; at.Advance()) {
        stages_.steps().WaitUntilFull(at);
        const Shape::Step step = SharedLoad(stages_.step(at));
        last = (step.flags & Shape::kLastOfPair) != 0, end = (step.flags & Shape::kLast) != 0;
        const bool hands_over = (step.flags & Shape::kOwnPart) != 0;
        if ((step.flags >> (Shape::kSees + group_) & 1) != 0) {
          stages_.parts().WaitUntilFull(step.statistics);
          Add(step, at, turn, hands_over, held, grad_k, grad_v);
          held.Hold(at);
        } else {
          EndStep(grad_k, grad_v);
          held.Free(stages_.steps());
          stages_.steps().SayFree(at);
          if (hands_over) {
            stages_.handed().WaitUntilFree(handed_);
            stages_.handed().SayFull(handed_);
          }
        }
        if (hands_over) ++handed_;
        if ((step.flags & Shape::kLastVisit) != 0) stages_.parts().SayFree(step.statistics);
      }
      EndStep(grad_k, grad_v);
      held.Free(stages_.steps());
      stages_.pairs().SayFree(turn);
      if (pair.head >= 0) Write(pair, grad_k, grad_v);
    }
  }

 private:
  // The position of the warp's first key.
  __device__ __forceinline__ int FirstKey(const Shape::Pair& pair) const {
    return pair.pair * Shape::kPair + warp_ * kGroupRows;
  }

  __device__ __forceinline__ void BeginPair(const Shape::Pair& pair) {
    const CudaTerm& term = p_.window.term;
    const int first = FirstKey(pair), length = pair.utterance.length;
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int position = first + lane_ / 4 + 8 * half;
      const bool there = position < length;
      seen_by_[half] = there ? QueriesOf(term, position, 0, length) : Run{0, 0};
      biases_[half] =
          p_.forward.biased && there ? EntryBias(p_.forward.arguments, pair.utterance.start + position, -1) : 0.F;
      bias_sums_[half] = 0;
    }
    seen_by_all_ = {0, 0};
    if (first + kGroupRows <= length)
      seen_by_all_ = {QueriesOf(term, first + kGroupRows - 1, 0, length).first, QueriesOf(term, first, 0, length).end};
  }

  // Adds what the step's queries give, and hands over the gradients of logits.
  __device__ __forceinline__ void Add(const Shape::Step& step, StagePlace at, int turn, bool hands_over,
                                      HeldStage& held, Sums<1, Hopper::kDim>& grad_k, Sums<1, Hopper::kDim>& grad_v) {
    const int first = step.part * kTile, column = lane_ % 4 * 2;
    const Shape::Statistics& statistics = stages_.statistics(step.statistics);
    const auto pair_of = [column](const float* of, int n) {
      return SharedLoad(reinterpret_cast<const Pair32*>(of + column + 8 * n));
    };
    AddStep<T>(
        {stages_.key_rows(turn, group_), stages_.value_rows(turn, group_), stages_.query_rows(at),
         stages_.grad_rows(at)},
        scale_, grad_k, grad_v, [&] { held.Free(stages_.steps()); },
        [&](Sums<1, kTile>& weights) {
          if (p_.forward.biased) AddRowBiases(weights, p_.forward.log2_scale, biases_);
          if (first < seen_by_all_.first || first + kTile > seen_by_all_.end) Mask(weights, first);
        },
        [&](int n) { return pair_of(statistics.lse, n); }, [&](int n) { return pair_of(statistics.minus_d, n); },
        [&](const Sums<1, kTile>& grads, const Packed<1, kTile>& packed) {
          if (p_.grad_bias) AddRows(grads, bias_sums_);
          if (hands_over) HandOver(packed);
        });
  }

  __device__ __forceinline__ void HandOver(const Packed<1, kTile>& grads) {
    stages_.handed().WaitUntilFree(handed_);
    uint16_t* handed = stages_.handed_rows(handed_, group_);
    const int row = warp_ % Hopper::kGroupWarps * kGroupRows + lane_ / 4, column = lane_ % 4 * 2;
    EARSHOT_UNROLL
    for (int i = 0; i < kTile / 4; ++i) {
      // Columns 8 (i / 2) + column and the next of row i % 2.
      auto* to = reinterpret_cast<uint32_t*>(handed + SwizzledChunk(row, i / 2) + i % 2 * 8 * Hopper::kDim + column);
      SharedStore(to, grads[0][i / 4][i % 4]);
    }
    stages_.handed().SayFull(handed_);
  }

  // -infinity where keys and queries do not meet.
  __device__ __forceinline__ void Mask(Sums<1, kTile>& logits, int first) const {
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const Run seen_by = seen_by_[half];
      MaskRow<0, kTile>(logits, half, RangeOf(Max(seen_by.first - first, 0), Min(seen_by.end - first, kTile)));
    }
  }

  __device__ __forceinline__ void Write(const Shape::Pair& pair, const Sums<1, Hopper::kDim>& grad_k,
                                        const Sums<1, Hopper::kDim>& grad_v) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int first = FirstKey(pair);
    const auto row_of = [&](int r) {
      return first + r < pair.utterance.length ? pair.utterance.start + first + r : -1;
    };
    if (p_.grad_bias) {
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float sum = RowSum(bias_sums_[half]);
        const int row = row_of(lane_ / 4 + 8 * half);
        if (lane_ % 4 == 0 && row >= 0) (p_.grad_bias + pair.head * p_.bias_stride)[row] = sum;
      }
    }
    // The warp's rows of what it hands over next.
    stages_.handed().WaitUntilFree(handed_);
    uint16_t* staging = stages_.handed_rows(handed_, group_) + warp_ % Hopper::kGroupWarps * kGroupRows * Hopper::kDim;
    WriteRounded<T, Hopper::kDim>(grad_v[0], 1.F, 1.F, staging, p_.grad_v, pair.head, a.head_dim, row_of);
    WriteRounded<T, Hopper::kDim>(grad_k[0], a.scale, a.scale, staging, p_.grad_k, pair.head, a.head_dim, row_of);
    __syncwarp();
  }

  const GradientProblem& p_;
  const WindowStages& stages_;
  const float scale_;
  const int lane_ = static_cast<int>(threadIdx.x) % kWarp, warp_ = Hopper::Warp();
  const int group_ = warp_ / Hopper::kGroupWarps;
  int handed_ = 0;  // steps that handed over
  // Queries that see the lane's keys, lane / 4 and lane / 4 + 8 of the warp's, and those that see all of the warp's.
  Run seen_by_[2] = {}, seen_by_all_ = {};
  float biases_[2] = {}, bias_sums_[2] = {};
};

// What a warp of the group for queries does, for 16 of each part; statistics included.
template <class T>
class WindowQueryGradients {
  using Shape = HopperWindowShape;

 public:
  __device__ __forceinline__ WindowQueryGradients(const GradientProblem& p, const WindowStages& stages)
      : p_(p), stages_(stages) {}

  __device__ __forceinline__ void Compute(int items) {
    EARSHOT_UNROLL
    for (int i = 0; i < Shape::kLive * Hopper::kDim / 8; ++i)
      SharedStore(stages_.live(i / 8, i % 8), Quad32{0, 0, 0, 0});
    int handed = 0, made = 0;
    for (WindowWalk walk(p_, items); !walk.AtEnd(); walk.Advance()) {
      made = Max(made, walk.first_statistics());
      // What the pair needs and is not there yet, then what the next one needs, one before each step: nobody is to wait
      // long for this group.
      const bool begins = walk.first_of_pair();
      const int end = begins ? walk.end_statistics() : Min(made + 1, walk.end_next_statistics());
      for (; made < end; ++made) {
        stages_.parts().WaitUntilFree(made);
        MakeStatistics(walk, walk.first_part() + made - walk.first_statistics(), stages_.statistics(made));
        stages_.parts().SayFull(made);
      }
      if (begins) stages_.pairs().WaitUntilFull(walk.turn());
      if (walk.own_part()) Add(walk, handed++);
      if (walk.last_of_pair()) stages_.pairs().SayFree(walk.turn());
    }
  }

 private:
  // -D as products of tiles, of which the diagonal counts. Any order of the channels is as good, so a lane loads eight
  // at once: chunks lane % 4 and lane % 4 + 4 of rows lane / 4 and lane / 4 + 8 of the warp's.
  __device__ __forceinline__ void MakeStatistics(const WindowWalk& walk, int part, Shape::Statistics& to) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int first = walk.start() + part * kTile + warp_ * kGroupRows, chunk = lane_ % 4 * 8;
    const Rows outs =
        HeadOf(CudaConstHeads{a.out.data, a.out.frame_stride, a.out.head_stride}, walk.head(), a.head_dim, true);
    const Rows grads = HeadOf(p_.grad_out, walk.head(), a.head_dim, true);
    Octet16 x[2][2] = {}, y[2][2] = {};  // of a half of the rows, and of the channels
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = Min(first + lane_ / 4 + 8 * half, walk.last_row());
      EARSHOT_UNROLL
      for (int i = 0; i < 2; ++i) {
        if (chunk + 32 * i >= a.head_dim) continue;
        x[half][i] = *reinterpret_cast<const Octet16*>(outs.At(row, chunk) + 32 * i);
        y[half][i] = *reinterpret_cast<const Octet16*>(grads.At(row, chunk) + 32 * i);
      }
    }
    float* lse = to.lse + warp_ * kGroupRows;
    if (lane_ < kGroupRows) {
      const int row = first + lane_;
      SharedStore(lse + lane_,
                  row <= walk.last_row() ? StatisticOf((a.lse + walk.head() * a.lse_stride)[row]) : INFINITY);
    }
    float* minus_d = to.minus_d + warp_ * kGroupRows;
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      float sums[4] = {};
      EARSHOT_UNROLL
      for (int j = 0; j < 4; ++j) {
        const uint32_t rows[4] = {x[0][0].pairs[j], x[1][0].pairs[j], x[0][1].pairs[j], x[1][1].pairs[j]};
        Mma<T>(sums, rows, y[half][0].pairs[j], y[half][1].pairs[j]);
      }
      if (lane_ / 8 == lane_ % 4)
        SharedStore(minus_d + lane_ / 4 + 8 * half, -(lane_ / 4 % 2 == 0 ? sums[2 * half] : sums[2 * half + 1]));
    }
  }

  // What the pair's keys give to the part's queries.
  __device__ __forceinline__ void Add(const WindowWalk& walk, int handed) {
    Sums<1, Hopper::kDim> sums;
    EARSHOT_UNROLL
    for (int n = 0; n < Hopper::kDim / 8; ++n) {
      const Quad32 piece = SharedLoad(stages_.live(walk.part(), n));
      sums[0][n][0] = piece.x, sums[0][n][1] = piece.y, sums[0][n][2] = piece.z, sums[0][n][3] = piece.w;
    }
    stages_.handed().WaitUntilFull(handed);
    BeginProducts();
    EARSHOT_UNROLL
    for (int group = 0; group < Hopper::kGroups; ++group) {
      if (!walk.Sees(group)) continue;
      const uint32_t a = TileDescriptor(stages_.handed_rows(handed, group));
      const uint32_t b = TileDescriptor(stages_.key_rows(walk.turn(), group));
      EARSHOT_UNROLL
      for (int i = 0; i < kTile / 16; ++i) AddTransposedTile<T>(sums[0], a + 128 * i, b + 128 * i);
    }
    CommitProducts();
    WaitProducts<0>(sums[0]);
    stages_.handed().SayFree(handed);
    if (!walk.last_visit()) {
      EARSHOT_UNROLL
      for (int n = 0; n < Hopper::kDim / 8; ++n)
        SharedStore(stages_.live(walk.part(), n), Quad32{sums[0][n][0], sums[0][n][1], sums[0][n][2], sums[0][n][3]});
      return;
    }
    EARSHOT_UNROLL
    for (int n = 0; n < Hopper::kDim / 8; ++n) SharedStore(stages_.live(walk.part(), n), Quad32{0, 0, 0, 0});
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int first = walk.part() * kTile + warp_ * kGroupRows;
    WriteRounded<T, Hopper::kDim>(sums[0], a.scale, a.scale, stages_.staging(warp_), p_.grad_q, walk.head(), a.head_dim,
                                  [&](int r) { return first + r < walk.length() ? walk.start() + first + r : -1; });
  }

  const GradientProblem& p_;
  const WindowStages& stages_;
  const int lane_ = static_cast<int>(threadIdx.x) % kWarp, warp_ = Hopper::Warp() % Hopper::kGroupWarps;
};

// Run and head i / heads and i % heads of items, for blockIdx.x and every gridDim.x-th after it; gridDim.x <= items.
template <class T>
__global__ void __launch_bounds__(HopperWindowShape::kThreads, 1)
    HopperWindowGradientsKernel(const __grid_constant__ GradientProblem p, int items) {
  using Shape = HopperWindowShape;
  const WindowStages stages(DynamicShared<unsigned char>());
  stages.Init();
  const int group = Hopper::Warp() / Hopper::kGroupWarps;
  if (group < Hopper::kGroups) {
    TakeRegisters<Shape::kKeyRegisters>();
    WindowKeyGradients<T>(p, stages).Compute();
  } else if (group == Hopper::kGroups) {
    GiveUpRegisters<Shape::kQueryRegisters>();
    WindowQueryGradients<T>(p, stages).Compute(items);
  } else {
    GiveUpRegisters<Shape::kBringing>();
    WindowBringer bringer(p, stages);
    if (const int role = Hopper::Warp() % Hopper::kGroupWarps; role < Hopper::kStages) {
      bringer.BringSteps(items, role);
    } else {
      bringer.BringPairs(items);
    }
  }
}

}  // namespace earshot::cuda
