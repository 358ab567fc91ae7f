// The backward pass with tiles, those of AMX or of vectors: all five products, see attention_kernel_backward.h. See
// attention_kernel_lanes.h for who includes this.
//
// Logits are computed transposed, keys in rows and queries in lanes: so weights, once rounded, are the first operand of
// P^T dO as they are, a bias is one number for each row, and only dS is needed in two forms. Blocks of 64 keys are the
// outer loop, blocks of 32 queries the inner one. Queries j and j + 16 of a block make the pairs of the products that
// sum over queries: they lie in the same lane of two vectors, so that nothing has to be shuffled.
#pragma once

#include "src/attention/attention_kernel_backward.h"
#include "src/attention/attention_kernel_operand.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Offsets within scratch memory of some MB fit an int.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result)

template <Cell kCell>
class TileBackwardPass {
 public:
  TileBackwardPass(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnitView& unit,
                   int kv_head, AttentionScratch& scratch)
      : arguments_(arguments),
        gradients_(gradients),
        unit_(unit),
        kv_head_(kv_head),
        d_(arguments.head_dim),
        key_cells_(KeyCells<kCell>(arguments.head_dim)),
        part_cells_(key_cells_ / kPartsOf),
        value_cells_(ValueCells(arguments.head_dim)),
        packed_cells_(PackedValueCells<kCell>(arguments.head_dim)),
        num_blocks_((unit.num_queries + kBlockQueries - 1) / kBlockQueries) {
    Arena measure(nullptr);
    Allocate(measure);
    Arena arena(scratch.Reserve(measure.used()));
    Allocate(arena);
  }

  void Run() {
    const int of_group = arguments_.heads / arguments_.kv_heads;
    for (int head = kv_head_ * of_group; head < (kv_head_ + 1) * of_group; ++head) {
      ComputeRows(arguments_, gradients_, unit_, head, num_blocks_ * kBlockQueries, rows_);
      PackQueries(arguments_.q, head, queries_);
      PackQueries(gradients_.grad_out, head, grad_out_);
      ZeroRow(num_blocks_ * kBlockQueries * value_cells_, grad_q_);
      for (int64_t first = 0; first < unit_.num_keys; first += kBlockKeys) {
        const int64_t left = unit_.num_keys - first;
        ComputeBlock(unit_.keys + first, CountOf(left), CountOf(left - kBlockKeys));
      }
      WriteQueries(head);
    }
  }

 private:
  static constexpr int kPartsOf = kParts<kCell>;
  static constexpr int kBlockQueries = 32, kBlockGroups = 4, kBlockKeys = kBlockGroups * kGroup;
  // Cells of the weights of a block of keys and one of queries, or of a part of them.
  static constexpr int kStripCells = kBlockKeys * kBlockQueries / 2;

  // The rows of a matrix of queries, as second operands of products that sum over channels and over queries.
  struct PackedQueries {
    float* over_channels = nullptr;  // (queries / 16, KeyCells, 16)
    float* over_queries = nullptr;   // (queries / 32, 16, PackedValueCells)
  };

  void Allocate(Arena& arena) {
    const int64_t queries = static_cast<int64_t>(num_blocks_) * kBlockQueries;
    for (PackedQueries* packed : {&queries_, &grad_out_}) {
      packed->over_channels = arena.Take<float>(queries * key_cells_);
      packed->over_queries = arena.Take<float>(queries / 2 * packed_cells_);
    }
    grad_q_ = arena.Take<float>(queries * value_cells_);
    weights_ = arena.Take<float>(static_cast<int64_t>(num_blocks_) * kPartsOf * kStripCells);
    grads_ = arena.Take<float>(static_cast<int64_t>(num_blocks_) * kPartsOf * kStripCells);
    rows_.lse = arena.Take<float>(queries);
    rows_.delta = arena.Take<float>(queries);
    key_rows_ = arena.Take<float>(kBlockKeys * key_cells_);
    value_rows_ = arena.Take<float>(kBlockKeys * key_cells_);
    transposed_keys_ = arena.Take<float>(key_cells_ * kBlockKeys);
    grad_k_ = arena.Take<float>(kBlockKeys * value_cells_);
    grad_v_ = arena.Take<float>(kBlockKeys * value_cells_);
    chunk_.bias = arena.Take<float>(kBlockKeys);
    chunk_.first = arena.Take<int32_t>(kBlockKeys);
    chunk_.end = arena.Take<int32_t>(kBlockKeys);
    chunk_.ranges = arena.Take<GroupRanges>(1);
  }

  // Rows of 16 queries or keys -> (KeyCells, 16), all parts.
  EARSHOT_INLINE void TransposeRows(const float* const* rows, float* out) const {
    if constexpr (kCell == Cell::kSplit) {
      TransposeParts(rows, part_cells_, out);
    } else {
      TransposeGroup(rows, key_cells_, out);
    }
  }
  // Cells of rows as they are loaded.
  int RowCells() const { return kCell == Cell::kSplit ? 2 * part_cells_ : Most(key_cells_, value_cells_ / 2); }

  void PackQueries(const ConstHeadsView& view, int head, const PackedQueries& packed) const {
    GroupRows<kCell> halves[2];
    for (int block = 0; block < num_blocks_; ++block) {
      for (int half = 0; half < 2; ++half) {
        const int first = block * kBlockQueries + half * kGroup;
        halves[half].Set(view, arguments_.type, head, d_, RowCells(), Least(kGroup, unit_.num_queries - first),
                         [&](int i) { return unit_.first_query + first + i; });
        TransposeRows(halves[half].rows, packed.over_channels + static_cast<std::ptrdiff_t>(first) * key_cells_);
      }
      float* over_queries = packed.over_queries + static_cast<std::ptrdiff_t>(block) * kGroup * packed_cells_;
      for (int i = 0; i < kGroup; ++i) {
        const float *a = halves[0].rows[i], *b = halves[1].rows[i];
        float* to = over_queries + i * packed_cells_;
        if constexpr (kCell == Cell::kSplit) {
          InterleaveParts(a, b, 2 * part_cells_, to);
        } else {
          InterleaveRows(a, b, value_cells_, to);
        }
      }
    }
  }

  // Keys and values as rows, and keys transposed: (d, 64) bf16, of each part.
  void PackBlock(const KeyEntry* entries, int count) {
    GroupRows<kCell> group_rows;
    alignas(64) float pairs[2][kPartsOf * kMaxHeadDim / 2 * kGroup];  // (KeyCells, 16) of two groups
    chunk_.entries = entries;
    chunk_.count = count;
    chunk_.num_groups = (count + kGroup - 1) / kGroup;
    for (int g = 0; g < kBlockGroups; ++g) {
      PackEntries(arguments_, g, chunk_);
      const int width = Most(0, Least(kGroup, count - g * kGroup));
      const auto frame_of = [&](int i) { return static_cast<int64_t>(entries[g * kGroup + i].row); };
      const auto copy = [&](float* to) {
        for (int i = 0; i < kGroup; ++i) {
          float* row = to + (g * kGroup + i) * key_cells_;
          if constexpr (kCell == Cell::kSplit) {
            LoadRow<kCell>(KernelType::kFloat, reinterpret_cast<const char*>(group_rows.rows[i]), 2 * part_cells_,
                           key_cells_, row);
          } else {
            CopyRow(group_rows.rows[i], key_cells_, row);
          }
        }
      };
      group_rows.Set(arguments_.v, arguments_.type, kv_head_, d_, RowCells(), width, frame_of);
      copy(value_rows_);
      group_rows.Set(arguments_.k, arguments_.type, kv_head_, d_, RowCells(), width, frame_of);
      copy(key_rows_);
      TransposeRows(group_rows.rows, pairs[g % 2]);
      if (g % 2 == 0) continue;
      for (int c = 0; c < key_cells_; ++c) {
        for (int half = 0; half < 2; ++half) {
          const auto cells = reinterpret_cast<UnsignedVector>(Load(pairs[half] + c * kGroup));
          for (int odd = 0; odd < 2; ++odd) {
            const ShortVector row = __builtin_convertvector(cells >> (16 * odd), ShortVector);
            __builtin_memcpy(transposed_keys_ + (2 * c + odd) * (kBlockKeys / 2) + g / 2 * kGroup + half * kGroup / 2,
                             &row, sizeof(row));
          }
        }
      }
    }
  }

  // keys x queries and values x grad_out, of a group and a block of queries -> to: (16, 32) each.
  EARSHOT_INLINE void Multiply(const float* keys, const PackedQueries& packed, int block, float* to) const {
    const float* queries = packed.over_channels + static_cast<std::ptrdiff_t>(block) * kBlockQueries * key_cells_;
    MultiplyTiles<kPartsOf, 1, 2, false>({to, kBlockQueries, 0, kGroup}, part_cells_ / 16, [&](int i) {
      return TileOperands{{keys + i * 16, key_cells_ * 4, 0, part_cells_ * 4},
                          {queries + i * 16 * kGroup, kGroup * 4, key_cells_ * kGroup * 4, part_cells_ * kGroup * 4}};
    });
  }
  EARSHOT_INLINE void MultiplyGroup(int group, int block, int buffer) {
    Multiply(key_rows_ + group * kGroup * key_cells_, queries_, block, logits_[buffer]);
    Multiply(value_rows_ + group * kGroup * key_cells_, grad_out_, block, grad_weights_[buffer]);
  }

  // Halves of a cell: the upper 16 bits of `first`, and of `second`, both rounded before.
  static EARSHOT_INLINE __m512i PairOf(__m512i first_shifted, __m512i second) {
    constexpr int kSecondWhereMask = 0xca;  // mask ? second : first
    return _mm512_ternarylogic_epi32(_mm512_set1_epi32(static_cast<int>(0xffff0000)), second, first_shifted,
                                     kSecondWhereMask);
  }
  static EARSHOT_INLINE __m512i Shifted(__m512i x) {
    return reinterpret_cast<__m512i>(reinterpret_cast<UnsignedVector>(x) >> 16);
  }
  // What PairOf takes the upper halves of, and what is left for the next part.
  static EARSHOT_INLINE __m512i Rounded(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    return kCell == Cell::kSplit ? bits : _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000));
  }
  static EARSHOT_INLINE __m512 Weight(__m512 logit, __m512 scale, __m512 bias, __m512 lse) {
    if constexpr (kCell == Cell::kSplit) {
      // Rounded as the forward pass does, so that large logits cancel.
      const __m512 x = _mm512_sub_ps(_mm512_fmadd_ps(logit, scale, bias), lse);
      return reinterpret_cast<__m512>(WeightOf(reinterpret_cast<FloatVector>(x)));
    } else {
      return FastExp2(_mm512_fmadd_ps(logit, scale, _mm512_sub_ps(bias, lse)));
    }
  }

  // P and dS of a group and a block of queries, from what MultiplyGroup left, as operands: of each part (16, 32) bf16
  // at `weights` and `grads`, (8, 16) cells at each of pairs[2], for the first and last 16 queries.
  template <bool kCut, bool kLogits>
  EARSHOT_INLINE void Weigh(int group, int block, int buffer, float* weights, float* grads, float* const* pairs) {
    const __m512 scale = _mm512_set1_ps(arguments_.scale * kLog2E);
    const int first_row = block * kBlockQueries;
    const __m512 lse[2] = {_mm512_load_ps(rows_.lse + first_row), _mm512_load_ps(rows_.lse + first_row + kGroup)};
    const __m512 delta[2] = {_mm512_load_ps(rows_.delta + first_row), _mm512_load_ps(rows_.delta + first_row + kGroup)};
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i row[2] = {_mm512_add_epi32(lanes, _mm512_set1_epi32(first_row)),
                            _mm512_add_epi32(lanes, _mm512_set1_epi32(first_row + kGroup))};
    const float* logits = logits_[buffer];
    const float* grad_weights = grad_weights_[buffer];
#pragma GCC unroll 1
    for (int i = 0; i < kGroup; i += 2) {
      __m512 weight[2][2], grad[2][2];
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const int key = group * kGroup + i + j;
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          const int at = (i + j) * kBlockQueries + h * kGroup;
          weight[j][h] = Weight(_mm512_load_ps(logits + at), scale, _mm512_set1_ps(chunk_.bias[key]), lse[h]);
          if (kCut) {
            const __mmask16 begun = _mm512_cmple_epi32_mask(_mm512_set1_epi32(chunk_.first[key]), row[h]);
            weight[j][h] = _mm512_maskz_mov_ps(
                _mm512_mask_cmpgt_epi32_mask(begun, _mm512_set1_epi32(chunk_.end[key]), row[h]), weight[j][h]);
          }
          grad[j][h] = _mm512_mul_ps(weight[j][h], _mm512_sub_ps(_mm512_load_ps(grad_weights + at), delta[h]));
        }
        if (kLogits) {
          float* sum = grad_logits_ + key * kGroup;
          _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), _mm512_add_ps(grad[j][0], grad[j][1])));
        }
      }
#pragma GCC unroll 3
      for (int part = 0; part < kPartsOf; ++part) {
        float* part_weights = weights + part * kStripCells;
        float* part_grads = grads + part * kStripCells;
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          _mm512_store_si512(part_weights + (i + j) * 16,
                             PairOf(Shifted(Rounded(weight[j][0])), Rounded(weight[j][1])));
        }
        const __m512i low = Shifted(Rounded(grad[0][0])), high = Rounded(grad[1][1]);
        const __m512i other_low = Rounded(grad[0][1]), other_high = Rounded(grad[1][0]);
        _mm512_store_si512(part_grads + i * 16, PairOf(low, other_low));
        _mm512_store_si512(part_grads + (i + 1) * 16, PairOf(Shifted(other_high), high));
        _mm512_store_si512(pairs[0] + part * kTileCells + i / 2 * 16, PairOf(low, other_high));
        _mm512_store_si512(pairs[1] + part * kTileCells + i / 2 * 16, PairOf(Shifted(other_low), high));
        if (part + 1 == kPartsOf) break;
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
#pragma GCC unroll 2
          for (int h = 0; h < 2; ++h) {
            weight[j][h] = BelowUpperHalf(weight[j][h]);
            grad[j][h] = BelowUpperHalf(grad[j][h]);
          }
        }
      }
    }
  }

  EARSHOT_INLINE void WeighGroup(bool cut, int group, int block, int buffer, float* weights, float* grads,
                                 float* const* pairs) {
    const bool wants_logits = gradients_.grad_bias != nullptr || gradients_.grad_scores != nullptr;
    if (cut) {
      Weigh<true, true>(group, block, buffer, weights, grads, pairs);
    } else if (wants_logits) {
      Weigh<false, true>(group, block, buffer, weights, grads, pairs);
    } else {
      Weigh<false, false>(group, block, buffer, weights, grads, pairs);
    }
  }

  // dQ^T of a block of queries += K^T dS^T. Tiles of (16 channels, 16 queries).
  EARSHOT_INLINE void AddQueries(int block, const bool (&seen_pairs)[2]) {
    const int first = seen_pairs[0] ? 0 : 1, count = seen_pairs[0] && seen_pairs[1] ? 2 : 1;
    for (int c = 0; c < value_cells_; c += 16) {
      float* to = grad_q_ + (static_cast<std::ptrdiff_t>(block) * value_cells_ + c) * kBlockQueries;
      MultiplyTiles<kPartsOf, 1, 2, true>({to, kGroup, 0, kTileCells}, count, [&](int i) {
        return TileOperands{{transposed_keys_ + c * (kBlockKeys / 2) + (first + i) * kGroup, kBlockKeys / 2 * 4, 0,
                             2 * part_cells_ * (kBlockKeys / 2) * 4},
                            {pairs_[first + i][0], kGroup * 4, sizeof(pairs_[0][0]), kTileCells * 4}};
      });
    }
  }

  // to: (64, ValueCells) = strip^T rows, over the blocks of queries that see any key of each 32. strip: for each that
  // sees any of the block, (64, 16) cells of each part.
  void MultiplyOverQueries(const float* strip, const float* rows, float* to) const {
    for (int key = 0; key < kBlockKeys; key += 2 * kGroup) {
      Seeing seeing;
      for (int i = 0; i < num_seen_; ++i)
        if (seen_pairs_[i][key / (2 * kGroup)]) seeing.at[seeing.count++] = i;
      int c = 0;
      for (; c + 32 <= value_cells_; c += 32) MultiplyColumns<2>(strip, rows, key, c, seeing, to);
      if (c < value_cells_) MultiplyColumns<1>(strip, rows, key, c, seeing, to);
    }
  }
  struct Seeing {
    int count = 0;
    int at[kUnitQueries / kBlockQueries];  // of seen_
  };
  template <int kColumnTiles>
  EARSHOT_INLINE void MultiplyColumns(const float* strip, const float* rows, int key, int c, const Seeing& seeing,
                                      float* to) const {
    MultiplyTiles<kPartsOf, 2, kColumnTiles, false>(
        {to + key * value_cells_ + c, value_cells_, kGroup * value_cells_, kGroup}, seeing.count, [&](int j) {
          const int i = seeing.at[j];
          return TileOperands{{strip + static_cast<std::ptrdiff_t>(i) * kPartsOf * kStripCells + key * 16, 64,
                               kTileCells * 4, kStripCells * 4},
                              {rows + static_cast<std::ptrdiff_t>(seen_[i]) * kGroup * packed_cells_ + c,
                               packed_cells_ * 4, 64, packed_cells_ / kPartsOf * 4}};
        });
  }

  static int CountOf(int64_t left) { return left <= 0 ? 0 : left < kBlockKeys ? static_cast<int>(left) : kBlockKeys; }

  void ComputeBlock(const KeyEntry* entries, int count, int next) {
    PackBlock(entries, count);
    PlanFetches(arguments_, gradients_, kv_head_, entries, count, next, prefetch_);
    prefetch_.Spread(4 * kBlockGroups);
    ZeroRow(kBlockKeys * kGroup, grad_logits_);
    num_seen_ = 0;
    VisibleGroups visible;
    for (int block = 0; block < num_blocks_; ++block) {
      const int first_row = block * kBlockQueries;
      FindVisible(*chunk_.ranges, chunk_.num_groups, first_row, Least(first_row + kBlockQueries, unit_.num_queries),
                  visible);
      if (visible.count == 0) continue;
      float* weights = weights_ + static_cast<std::ptrdiff_t>(num_seen_) * kPartsOf * kStripCells;
      float* grads = grads_ + static_cast<std::ptrdiff_t>(num_seen_) * kPartsOf * kStripCells;
      bool(&seen_pairs)[2] = seen_pairs_[num_seen_];
      seen_pairs[0] = seen_pairs[1] = false;
      seen_[num_seen_++] = block;
      if (visible.count < kBlockGroups) {
        ZeroRow(kPartsOf * kStripCells, weights);
        ZeroRow(kPartsOf * kStripCells, grads);
        ZeroRow(4 * kPartsOf * kTileCells, pairs_[0][0]);
      }
      MultiplyGroup(visible.group[0], block, 0);
      for (int i = 0; i < visible.count; ++i) {
        if (i + 1 < visible.count) MultiplyGroup(visible.group[i + 1], block, (i + 1) % 2);
        prefetch_.Step();
        const int group = visible.group[i], pair = group / 2, half = group % 2 * (kTileCells / 2);
        float* const pairs[2] = {pairs_[pair][0] + half, pairs_[pair][1] + half};
        seen_pairs[pair] = true;
        WeighGroup(visible.cut[i], group, block, i % 2, weights + group * kTileCells, grads + group * kTileCells,
                   pairs);
      }
      AddQueries(block, seen_pairs);
    }
    if (num_seen_ == 0) return;
    MultiplyOverQueries(weights_, grad_out_.over_queries, grad_v_);
    MultiplyOverQueries(grads_, queries_.over_queries, grad_k_);
    for (int i = 0; i < count; ++i)
      AddEntry(arguments_, gradients_, entries[i], kv_head_, grad_k_ + i * value_cells_, grad_v_ + i * value_cells_,
               Sum(Load(grad_logits_ + i * kGroup)));
  }

  void WriteQueries(int head) const {
    alignas(64) float rows[kGroup * kRowStep];
    for (int r = 0; r < unit_.num_queries; r += kGroup) {
      const float* tiles = grad_q_ + (static_cast<std::ptrdiff_t>(r / kBlockQueries) * kBlockQueries * value_cells_) +
                           r % kBlockQueries * kGroup;
      for (int c = 0; c < value_cells_; c += kGroup) {
        FloatVector tile[kGroup];
        for (int i = 0; i < kGroup; ++i) tile[i] = Load(tiles + c * kBlockQueries + i * kGroup);
        Transpose(tile);
        for (int i = 0; i < kGroup; ++i) Store(tile[i], rows + i * kRowStep + c);
      }
      for (int i = 0; i < Least(kGroup, unit_.num_queries - r); ++i) {
        const int64_t frame = unit_.first_query + r + i;
        WriteRow(rows + i * kRowStep, arguments_.scale, d_, arguments_.type, gradients_.grad_q.data,
                 frame * gradients_.grad_q.frame_stride + head * gradients_.grad_q.head_stride);
      }
    }
  }

  const AttentionArguments& arguments_;
  const AttentionGradients& gradients_;
  const KeyUnitView& unit_;
  int kv_head_, d_, key_cells_, part_cells_, value_cells_, packed_cells_, num_blocks_;
  BackwardRows rows_;
  PackedQueries queries_, grad_out_;
  float* grad_q_ = nullptr;   // (queries / 32, ValueCells / 16, 2) tiles of (16 channels, 16 queries)
  float* weights_ = nullptr;  // P^T: for each block of queries that sees the block of keys, (parts, 64, 16) cells
  float* grads_ = nullptr;    // dS^T, likewise
  // Of the block of keys.
  KeyChunk chunk_;  // entries alone
  Prefetch prefetch_;
  float* key_rows_ = nullptr;         // (64, KeyCells)
  float* value_rows_ = nullptr;       // (64, KeyCells)
  float* transposed_keys_ = nullptr;  // (2 KeyCells, 32) cells, part after part
  float* grad_k_ = nullptr;           // (64, ValueCells) float
  float* grad_v_ = nullptr;
  int num_seen_ = 0;
  int seen_[kUnitQueries / kBlockQueries];                     // the blocks of queries that see any of them
  bool seen_pairs_[kUnitQueries / kBlockQueries][2];           // any of the first and of the last 32
  alignas(64) float grad_logits_[kBlockKeys * kGroup];         // sums of each lane
  alignas(64) float logits_[2][kGroup * kBlockQueries];        // of two groups in turn
  alignas(64) float grad_weights_[2][kGroup * kBlockQueries];  // dP^T, likewise
  alignas(64) float pairs_[2][2][kPartsOf * kTileCells];       // dS^T as a second operand: of 32 keys, of 16 queries
};

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
