// The forward pass of a unit; see attention_kernel_lanes.h for who includes this. An engine computes a tile of queries
// against a chunk of keys; what is here cuts the unit into them.
//
// Exponentials are taken of the logits as they are, without the search for the largest of a row that they are commonly
// lessened by: floats reach from 2^-126 to 2^127, and all is exact as long as a row's sum is nowhere near the ends. The
// sum itself tells, afterwards; where it does not lie within 2^-60 and 2^60 the tile is computed again, with the
// search. So chunks simply add up, and no running maximum has to rescale what was summed before.
#pragma once

#include "src/attention/attention_kernel_product.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

constexpr int kChunkBytes = 512 << 10;

// The sums of the queries of a tile; engine.kRows of each.
struct TileSums {
  float* out = nullptr;      // (rows, ValueCells) weights times values; what is there counts for nothing while `fresh`
  float* sums = nullptr;     // (rows) of weights
  float* offsets = nullptr;  // (rows) what logits are lessened by, times log2(e)
  bool fresh = true;
};

// What an engine gets to know of a tile.
struct Tile {
  int head = 0;
  int first_row = 0, end_row = 0;  // of the unit; end_row - first_row may be less than kRows
};

// What is done once a tile or a chunk is kept out of line: in one function with the rest, all of it lacks registers.
template <class Engine>
class ForwardPass {
 public:
  ForwardPass(const AttentionArguments& arguments, const KeyUnitView& unit, int kv_head, AttentionScratch& scratch)
      : arguments_(arguments), unit_(unit), kv_head_(kv_head) {
    const int d = arguments.head_dim;
    const int64_t bytes_of_key =
        4 * (KeyCells<Engine::kCell>(d) + PackedValueCells<Engine::kCell>(d) / kValuesInCell<Engine::kCell>);
    chunk_groups_ = Least(kMaxChunkGroups, static_cast<int>(kChunkBytes / (bytes_of_key * kGroup)));
    const int64_t groups = (unit.num_keys + kGroup - 1) / kGroup;
    num_chunks_ = (groups + chunk_groups_ - 1) / chunk_groups_;
    if (groups < chunk_groups_) chunk_groups_ = static_cast<int>(groups);
    num_tiles_ = (unit.num_queries + kRows - 1) / kRows;
    tiles_at_once_ = num_chunks_ > 1 ? num_tiles_ : 1;
    Arena measure(nullptr);
    Allocate(measure);
    Arena arena(scratch.Reserve(measure.used()));
    Allocate(arena);
  }

  void Run() {
    const int of_group = arguments_.heads / arguments_.kv_heads;
    for (int head = kv_head_ * of_group; head < (kv_head_ + 1) * of_group; ++head) {
      careful_ = false;
      for (int tile = 0; tile < num_tiles_; tile += tiles_at_once_) ComputeTiles(head, tile, tile + tiles_at_once_);
    }
  }

 private:
  static constexpr int kRows = Engine::kRows, kVectorRows = Least(kRows, kLanes);

  void Allocate(Arena& arena) {
    const int d = arguments_.head_dim;
    const int64_t groups = chunk_groups_ + Engine::kEmptyGroups, keys = groups * kGroup;
    chunk_.keys = arena.Take<float>(keys * KeyCells<Engine::kCell>(d));
    chunk_.values = arena.Take<float>(keys / kValuesInCell<Engine::kCell> * PackedValueCells<Engine::kCell>(d));
    chunk_.bias = arena.Take<float>(keys);
    chunk_.first = arena.Take<int32_t>(keys);
    chunk_.end = arena.Take<int32_t>(keys);
    chunk_.ranges = arena.Take<GroupRanges>(1);
    chunk_.packed = arena.Take<bool>(groups);
    const int64_t rows = static_cast<int64_t>(tiles_at_once_) * kRows;
    sums_.out = arena.Take<float>(rows * ValueCells(d));
    sums_.sums = arena.Take<float>(rows);
    sums_.offsets = arena.Take<float>(rows);
    engine_ = arena.Take<Engine>(1);
  }

  // sees_[r]: whether query r is in any entry. Asked for only where some sum is 0, or not to be trusted.
  void FindSeeing() {
    if (knows_seeing_) return;
    knows_seeing_ = true;
    int32_t changes[kUnitQueries + 1] = {};
    for (int64_t i = 0; i < unit_.num_keys; ++i) {
      const int first = Most(unit_.keys[i].first, 0), end = Least(unit_.keys[i].end, unit_.num_queries);
      if (first >= end) continue;
      ++changes[first];
      --changes[end];
    }
    int32_t count = 0;
    for (int r = 0; r < unit_.num_queries; ++r) sees_[r] = (count += changes[r]) > 0;
  }

  __attribute__((noinline)) void LoadChunk(int64_t index) {
    if (loaded_chunk_ == index) return;
    const int64_t first = index * chunk_groups_ * kGroup, left = unit_.num_keys - first;
    chunk_.entries = unit_.keys + first;
    chunk_.count = left < chunk_groups_ * kGroup ? static_cast<int>(left) : chunk_groups_ * kGroup;
    chunk_.num_groups = (chunk_.count + kGroup - 1) / kGroup;
    for (int g = 0; g < chunk_.num_groups + Engine::kEmptyGroups; ++g) PackEntries(arguments_, g, chunk_);
    loaded_chunk_ = index;
    visible_tile_[0] = visible_tile_[1] = -1;
  }

  // Of the chunk, for a tile: kept for two, as this one looks at what the next will need.
  const VisibleGroups& VisibleTo(int tile) {
    VisibleGroups& visible = visible_[tile % 2];
    if (visible_tile_[tile % 2] != tile) {
      const Tile rows = TileOf(0, tile);
      FindVisible(*chunk_.ranges, chunk_.num_groups, rows.first_row, rows.end_row, visible);
      visible_tile_[tile % 2] = tile;
    }
    return visible;
  }

  // For the first tile, which no other fetches for.
  void FetchGroup(int group) const {
    if (chunk_.packed[group]) return;
    const KernelType type = arguments_.type;
    for (int i = group * kGroup; i < Least(chunk_.count, (group + 1) * kGroup); ++i) {
      FetchRow(HeadRow(arguments_.k, type, chunk_.entries[i].row, kv_head_), arguments_.head_dim, type);
      FetchRow(HeadRow(arguments_.v, type, chunk_.entries[i].row, kv_head_), arguments_.head_dim, type);
    }
  }

  // Packs what of the chunk a tile sees, and plans to fetch where its outputs go and what the next tile reads.
  __attribute__((noinline)) void Prepare(const Tile& tile, const VisibleGroups& visible) {
    for (int i = 0; i < visible.count; ++i) {
      for (int g = visible.group[i]; g <= visible.group[i] + Engine::kEmptyGroups; ++g) {
        if (chunk_.packed[g]) continue;
        if (i + 2 < visible.count) FetchGroup(visible.group[i + 2]);
        PackGroup<Engine::kCell>(arguments_, kv_head_, g, chunk_);
      }
    }
    const KernelType type = arguments_.type;
    const int64_t size = type == KernelType::kFloat ? 4 : 2, frame = unit_.first_query + tile.first_row;
    const int bytes = arguments_.head_dim * static_cast<int>(size), count = tile.end_row - tile.first_row;
    const ConstHeadsView out = {arguments_.out.data, arguments_.out.frame_stride, arguments_.out.head_stride};
    prefetch_.Clear();
    prefetch_.Add(HeadRow(out, type, frame, tile.head), out.frame_stride * size, nullptr, count, bytes);
    if (tile.end_row < unit_.num_queries) {
      const ConstHeadsView& q = arguments_.q;
      prefetch_.Add(HeadRow(q, type, frame + kRows, tile.head), q.frame_stride * size, nullptr,
                    Least(kRows, unit_.num_queries - tile.end_row), bytes);
      const VisibleGroups& next = VisibleTo(tile.first_row / kRows + 1);
      for (int i = next.count - 1; i >= 0; --i)
        if (!chunk_.packed[next.group[i]]) PlanGroup(next.group[i], kv_head_);
    }
    if (num_chunks_ > 1 || kv_head_ + 1 == arguments_.kv_heads) return;
    // What the first tile of the next head sees, a share by each tile: it is the most that is packed at once.
    const int index = tile.first_row / kRows;
    if (index == 0) first_groups_ = visible;
    for (int i = first_groups_.count * index / num_tiles_; i < first_groups_.count * (index + 1) / num_tiles_; ++i)
      PlanGroup(first_groups_.group[i], kv_head_ + 1);
  }

  void PlanGroup(int group, int kv_head) {
    const int64_t size = arguments_.type == KernelType::kFloat ? 4 : 2;
    const int first = group * kGroup, bytes = arguments_.head_dim * static_cast<int>(size);
    for (const ConstHeadsView* view : {&arguments_.k, &arguments_.v})
      prefetch_.Add(HeadRow(*view, arguments_.type, 0, kv_head), view->frame_stride * size, chunk_.entries + first,
                    Least(kGroup, chunk_.count - first), bytes);
  }

  Tile TileOf(int head, int tile) const { return {head, tile * kRows, Least((tile + 1) * kRows, unit_.num_queries)}; }
  TileSums SumsOf(int index) const {
    const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(index) * kRows;
    return {sums_.out + row * ValueCells(arguments_.head_dim), sums_.sums + row, sums_.offsets + row, fresh_[index]};
  }

  enum class Step { kFast, kSearch, kOffset };

  // Of all chunks, for the tiles of [first, end) that are wanted.
  template <Step kStep>
  void Sweep(int head, int first, int end) {
    for (int tile = first; tile < end; ++tile) {
      if (kStep != Step::kFast && !again_[tile]) continue;
      const TileSums sums = SumsOf(tile - first);
      for (int r = 0; r < kRows; ++r) {
        sums.sums[r] = 0;
        if (kStep == Step::kFast) sums.offsets[r] = 0;
        if (kStep == Step::kSearch) sums.offsets[r] = -kInfinity;
      }
      fresh_[tile - first] = true;
    }
    for (int64_t c = 0; c < num_chunks_; ++c) {
      LoadChunk(c);
      for (int tile = first; tile < end; ++tile) {
        if (kStep != Step::kFast && !again_[tile]) continue;
        const Tile rows = TileOf(head, tile);
        const VisibleGroups& visible = VisibleTo(tile);
        if (visible.count == 0) continue;
        Prepare(rows, visible);
        engine_->LoadQueries(arguments_, unit_, rows);
        if (kStep == Step::kSearch) {
          engine_->Search(arguments_, chunk_, visible, rows, SumsOf(tile - first));
        } else {
          engine_->template Accumulate<kStep == Step::kOffset>(arguments_, chunk_, visible, rows, SumsOf(tile - first),
                                                               prefetch_);
          fresh_[tile - first] = false;
        }
      }
    }
    if (kStep != Step::kSearch) return;
    for (int tile = first; tile < end; ++tile) {
      if (!again_[tile]) continue;
      const TileSums sums = SumsOf(tile - first);
      for (int r = 0; r < kRows; ++r)
        if (sums.offsets[r] == -kInfinity) sums.offsets[r] = 0;  // nothing but biases of minus infinity
    }
  }

  void ComputeTiles(int head, int first, int end) {
    constexpr float kLeastSum = 0x1p-60f, kMostSum = 0x1p60f;
    bool any = careful_;
    for (int tile = first; tile < end; ++tile) again_[tile] = careful_;
    if (!careful_) {
      Sweep<Step::kFast>(head, first, end);
      for (int tile = first; tile < end; ++tile) {
        const Tile rows = TileOf(head, tile);
        const float* sums = SumsOf(tile - first).sums;
        for (int r = rows.first_row; r < rows.end_row; ++r) {
          const float sum = sums[r - rows.first_row];
          if (sum >= kLeastSum && sum <= kMostSum) continue;
          FindSeeing();
          if (sees_[r]) again_[tile] = any = true;
        }
      }
    }
    if (any) {
      careful_ = true;  // where one tile has such logits the next will
      Sweep<Step::kSearch>(head, first, end);
      Sweep<Step::kOffset>(head, first, end);
    }
    for (int tile = first; tile < end; ++tile) WriteTile(TileOf(head, tile), SumsOf(tile - first));
  }

  __attribute__((noinline)) void WriteTile(const Tile& tile, const TileSums& sums) const {
    const int d = arguments_.head_dim, value_cells = ValueCells(d);
    if (sums.fresh) ZeroRow(kRows * value_cells, sums.out);
    const bool wants_lse = arguments_.lse != nullptr;
    float lse[kRows];
    for (int r = 0; r < kRows; r += kVectorRows) {
      FloatVector sum = {}, offset = {};
      __builtin_memcpy(&sum, sums.sums + r, sizeof(float) * kVectorRows);
      __builtin_memcpy(&offset, sums.offsets + r, sizeof(float) * kVectorRows);
      const FloatVector factors = sum == 0 ? FloatVector{} : 1 / sum;
      __builtin_memcpy(sums.sums + r, &factors, sizeof(float) * kVectorRows);
      if (!wants_lse) continue;
      const FloatVector of_row = sum == 0 ? Broadcast(-kInfinity) : offset * kLn2 + Log(sum);
      __builtin_memcpy(lse + r, &of_row, sizeof(float) * kVectorRows);
    }
    for (int r = tile.first_row; r < tile.end_row; ++r) {
      const int at = r - tile.first_row;
      const int64_t frame = unit_.first_query + r;
      const int64_t element = frame * arguments_.out.frame_stride + tile.head * arguments_.out.head_stride;
      WriteRow(sums.out + static_cast<std::ptrdiff_t>(at) * value_cells, sums.sums[at], d, arguments_.type,
               arguments_.out.data, element);
      if (wants_lse) arguments_.lse[tile.head * arguments_.lse_stride + frame] = lse[at];
    }
  }

  const AttentionArguments& arguments_;
  const KeyUnitView& unit_;
  int kv_head_;
  int chunk_groups_ = 0, num_tiles_ = 0, tiles_at_once_ = 1;
  int64_t num_chunks_ = 0, loaded_chunk_ = -1;
  KeyChunk chunk_;
  TileSums sums_;
  Engine* engine_ = nullptr;
  VisibleGroups visible_[2];
  int visible_tile_[2] = {-1, -1};
  VisibleGroups first_groups_;
  Prefetch prefetch_;
  bool careful_ = false, knows_seeing_ = false;
  bool sees_[kUnitQueries];
  bool again_[kUnitQueries];       // of each tile
  bool fresh_[kUnitQueries] = {};  // of each of sums_
};

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
