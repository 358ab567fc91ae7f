#include "src/attention/key_list.h"

#include <algorithm>

#include "src/base/error.h"

namespace earshot {
namespace {

class UnitBuilder {
 public:
  UnitBuilder(const QueryLayout& queries, const KeyLayout& keys, const KeyDrop& drop, const UnitRange& range,
              KeyUnit* unit)
      : queries_(queries), keys_(keys), drop_(drop), range_(range), unit_(unit) {
    EARSHOT_CHECK(range.count >= 0 && range.count <= kUnitQueries && range.first + range.count <= queries.num_queries,
                  "a unit of {} queries from {} of {}", range.count, range.first, queries.num_queries);
    unit->first_query = range.first;
    unit->num_queries = static_cast<int32_t>(range.count);
    unit->keys.clear();
  }

  int64_t count() const { return range_.count; }
  int64_t Position(int64_t query) const { return queries_.Position(range_.first + query); }

  // The next term begins. What it lists is ascending by row.
  void BeginList() { begin_ = unit_->keys.size(); }

  // Frames first, first + step, ... of the hulls of all queries. hull(position) rises with the position, and is asked
  // for once for all queries up to its second value.
  template <typename HullOf>
  void AddFrames(HullOf hull_of, int64_t step) {
    BeginList();
    FillHulls(hull_of);
    if (count() == 0) return;
    const int64_t last = std::min(hulls_[static_cast<size_t>(count() - 1)].last, LastPosition());
    if (keys_.positions.empty()) {
      Sweep(hulls_[0].first, last, step, [](int64_t key) { return key; });
      return;
    }
    // Positions that are not there have no row; those that are may lie off the stride.
    int64_t lo = 0, hi = 0;
    const int64_t from = keys_.FrameAt(hulls_[0].first);
    for (int64_t frame = from; frame < keys_.valid_frames && keys_.Position(frame) <= last; ++frame) {
      if (step == 1 || keys_.Position(frame) % step == 0) Emit(keys_.Position(frame), frame, &lo, &hi);
    }
    EndList();
  }

  // Cells of a level: the hulls are of cells.
  template <typename HullOf>
  void AddCells(HullOf hull_of, const KeyLayout::Level& level) {
    BeginList();
    FillHulls(hull_of);
    if (count() == 0) return;
    const int64_t last =
        std::min(hulls_[static_cast<size_t>(count() - 1)].last, level.first_cell + level.num_cells - 1);
    Sweep(std::max(hulls_[0].first, level.first_cell), last, 1,
          [&](int64_t cell) { return level.first_row + cell - level.first_cell; });
  }

  // Frames of positions first..last, for queries [begin, end) of the unit.
  void AddBlock(const KeyRange& positions, int64_t begin, int64_t end, int64_t score) {
    const int64_t from = keys_.FrameAt(positions.first);
    for (int64_t f = from; f < keys_.valid_frames && keys_.Position(f) <= positions.last; ++f) {
      Add(f, begin, end, score);
    }
  }

  void Add(int64_t row, int64_t begin, int64_t end, int64_t score) {
    if (drop_.bias && drop_.bias[row] < drop_.below) return;
    unit_->keys.push_back({.row = static_cast<int32_t>(row),
                           .first = static_cast<int32_t>(begin),
                           .end = static_cast<int32_t>(end),
                           .score = static_cast<int32_t>(score)});
  }

  // Merges the term that ends with what was there: entries stay ascending by row, scored ones after the others.
  void EndList() {
    if (begin_ == 0 || begin_ == unit_->keys.size()) return;
    overlaps_ = true;
    std::inplace_merge(unit_->keys.begin(), unit_->keys.begin() + static_cast<int64_t>(begin_), unit_->keys.end(),
                       Before);
  }
  // The same of one whose entries came in any order, with scores.
  void EndScoredList() {
    scored_ = true;
    std::sort(unit_->keys.begin() + static_cast<int64_t>(begin_), unit_->keys.end(), Before);
    EndList();
  }

  // Joins the ranges of a row; a scored one loses the queries that see the row without a score. Rows that are seen by
  // several ranges of queries stand behind the others, range by range, and what was chosen for a block of queries
  // together: by row, a group of keys would be seen by all of those ranges.
  void Finish() {
    if (overlaps_) JoinRows();
    if (scored_) std::ranges::stable_sort(unit_->keys, {}, &KeyEntry::score);
  }

 private:
  void JoinRows() {
    std::vector<KeyEntry>& keys = unit_->keys;
    std::vector<KeyEntry> out;
    std::vector<std::vector<KeyEntry>> further;  // second ranges, third ones, ...
    out.reserve(keys.size());
    std::vector<KeyEntry> plain;
    for (size_t i = 0; i < keys.size();) {
      const int32_t row = keys[i].row;
      plain.clear();
      for (; i < keys.size() && keys[i].row == row && keys[i].score < 0; ++i) {
        if (!plain.empty() && keys[i].first <= plain.back().end) {
          plain.back().end = std::max(plain.back().end, keys[i].end);
        } else {
          plain.push_back(keys[i]);
        }
      }
      for (; i < keys.size() && keys[i].row == row; ++i) AddRest(keys[i], plain, &out);
      if (plain.size() > further.size() + 1) further.resize(plain.size() - 1);
      for (size_t r = 0; r < plain.size(); ++r) (r == 0 ? out : further[r - 1]).push_back(plain[r]);
    }
    for (const std::vector<KeyEntry>& ranges : further) out.insert(out.end(), ranges.begin(), ranges.end());
    keys.swap(out);
  }

  // What of a scored entry no plain one of its row covers.
  static void AddRest(KeyEntry rest, const std::vector<KeyEntry>& plain, std::vector<KeyEntry>* out) {
    for (const KeyEntry& p : plain) {
      if (p.end <= rest.first || p.first >= rest.end) continue;
      if (p.first > rest.first) {
        KeyEntry before = rest;
        before.end = p.first;
        out->push_back(before);
      }
      rest.first = p.end;
    }
    if (rest.first < rest.end) out->push_back(rest);
  }

  static bool Before(const KeyEntry& a, const KeyEntry& b) {
    if (a.row != b.row) return a.row < b.row;
    if ((a.score < 0) != (b.score < 0)) return a.score < 0;
    return a.first < b.first;
  }

  int64_t LastPosition() const { return keys_.valid_frames == 0 ? -1 : keys_.Position(keys_.valid_frames - 1); }

  template <typename HullOf>
  void FillHulls(HullOf hull_of) {
    hulls_.resize(static_cast<size_t>(count()));
    int64_t same_until = -1;
    KeyRange hull;
    for (int64_t q = 0; q < count(); ++q) {
      const int64_t position = Position(q);
      if (position > same_until) hull = hull_of(position, &same_until);
      hulls_[static_cast<size_t>(q)] = hull;
    }
  }

  template <typename RowOf>
  void Sweep(int64_t from, int64_t last, int64_t step, RowOf row_of) {
    int64_t lo = 0, hi = 0;
    for (int64_t key = (from + step - 1) / step * step; key <= last; key += step) Emit(key, row_of(key), &lo, &hi);
    EndList();
  }

  // Hulls rise, so those that hold the key are neighbours, and the two bounds only ever go up.
  void Emit(int64_t key, int64_t row, int64_t* lo, int64_t* hi) {
    while (*lo < count() && hulls_[static_cast<size_t>(*lo)].last < key) ++*lo;
    while (*hi < count() && hulls_[static_cast<size_t>(*hi)].first <= key) ++*hi;
    if (*lo < *hi) Add(row, *lo, *hi, -1);
  }

  const QueryLayout& queries_;
  const KeyLayout& keys_;
  const KeyDrop& drop_;
  UnitRange range_;
  KeyUnit* unit_;
  std::vector<KeyRange> hulls_;
  size_t begin_ = 0;
  bool overlaps_ = false, scored_ = false;
};

bool ByChunk(PatternKind kind) {
  return kind == PatternKind::kLocal || kind == PatternKind::kLearned || kind == PatternKind::kHierarchical;
}

void AddBlockwise(const PatternTerm& t, UnitBuilder& builder) {
  std::vector<int64_t> offsets = t.offsets;
  offsets.insert(std::lower_bound(offsets.begin(), offsets.end(), 0), 0);
  for (const int64_t offset : offsets) {
    builder.AddFrames(
        [&](int64_t position, int64_t* same_until) {
          const int64_t block = position / t.chunk;
          *same_until = (block + 1) * t.chunk - 1;
          const int64_t first = (block + offset) * t.chunk;
          return KeyRange{std::max<int64_t>(0, first), first + t.chunk - 1};
        },
        1);
  }
}

void AddHierarchy(const PatternTerm& t, const KeyLayout& keys, UnitBuilder& builder) {
  EARSHOT_CHECK(static_cast<int64_t>(keys.levels.size()) == t.levels, "{} levels of cells, the pattern has {}",
                keys.levels.size(), t.levels);
  for (const bool future : {false, true}) {
    if (future && !t.future) continue;
    for (int64_t level = 1; level <= t.levels; ++level) {
      builder.AddCells(
          [&](int64_t position, int64_t* same_until) {
            *same_until = (position / t.chunk + 1) * t.chunk - 1;
            return future ? t.FutureCells(position, level) : t.PastCells(position, level);
          },
          keys.levels[static_cast<size_t>(level - 1)]);
    }
  }
}

// Calls f(chunk, begin, end) for each run of queries in one chunk.
template <typename F>
void ForEachChunk(int64_t chunk_size, const UnitBuilder& builder, F f) {
  for (int64_t begin = 0; begin < builder.count();) {
    const int64_t chunk = builder.Position(begin) / chunk_size;
    int64_t end = begin;
    while (end < builder.count() && builder.Position(end) / chunk_size == chunk) ++end;
    f(chunk, begin, end);
    begin = end;
  }
}

void AddSelected(const PatternTerm& t, const QueryLayout& queries, const BlockSelection& selection,
                 UnitBuilder& builder) {
  if (!selection.blocks || queries.num_queries == 0) return;
  builder.BeginList();
  const int64_t first_block = queries.Position(0) / t.chunk;
  ForEachChunk(t.chunk, builder, [&](int64_t block, int64_t begin, int64_t end) {
    const int64_t b = block - first_block;
    EARSHOT_CHECK(b < selection.num_blocks, "block {} of {} selected", b, selection.num_blocks);
    for (int64_t rank = 0; rank < t.blocks; ++rank) {
      const int64_t chosen = selection.blocks[b * t.blocks + rank];
      if (chosen < 0) continue;
      builder.AddBlock({chosen * t.chunk, (chosen + 1) * t.chunk - 1}, begin, end, b * t.blocks + rank);
    }
  });
  builder.EndScoredList();
}

void AddMemory(const PatternTerm& t, const KeyLayout& keys, UnitBuilder& builder) {
  if (keys.memory_row < 0) return;
  builder.BeginList();
  ForEachChunk(t.chunk, builder, [&](int64_t chunk, int64_t begin, int64_t end) {
    const int64_t b = chunk - keys.first_chunk;
    EARSHOT_CHECK(b >= 0 && b < keys.num_chunks, "memory of chunk {}, there are {} from {}", chunk, keys.num_chunks,
                  keys.first_chunk);
    for (int64_t slot = 0; slot < t.slots; ++slot) builder.Add(keys.memory_row + b * t.slots + slot, begin, end, -1);
  });
  builder.EndList();
}

}  // namespace

int64_t KeyLayout::FrameAt(int64_t position) const {
  if (positions.empty()) return std::clamp<int64_t>(position, 0, num_frames);
  return std::lower_bound(positions.begin(), positions.end(), position) - positions.begin();
}

void BuildKeyUnit(const Pattern& pattern, const QueryLayout& queries, const KeyLayout& keys,
                  const BlockSelection& selection, const KeyDrop& drop, const UnitRange& range, KeyUnit* unit) {
  UnitBuilder builder(queries, keys, drop, range, unit);
  for (const PatternTerm& t : pattern.terms()) {
    if (t.kind == PatternKind::kMemory) {
      AddMemory(t, keys, builder);
    } else if (t.kind == PatternKind::kBlockwise) {
      AddBlockwise(t, builder);
    } else {
      builder.AddFrames(
          [&](int64_t position, int64_t* same_until) {
            *same_until = ByChunk(t.kind) ? (position / t.chunk + 1) * t.chunk - 1 : position;
            return t.Hull(position);
          },
          t.kind == PatternKind::kStrided ? t.every : 1);
    }
    if (t.kind == PatternKind::kHierarchical) AddHierarchy(t, keys, builder);
    if (t.kind == PatternKind::kLearned) AddSelected(t, queries, selection, builder);
  }
  builder.Finish();
}

int64_t SeesRow(const Pattern& pattern, const QueryLayout& queries, const KeyLayout& keys,
                const BlockSelection& selection, int64_t query, int64_t row) {
  const int64_t position = queries.Position(query);
  if (row < keys.num_frames) {
    if (row >= keys.valid_frames) return -1;
    const int64_t key = keys.Position(row);
    if (pattern.MaySee(position, key)) return 0;
    const PatternTerm* t = pattern.learned();
    if (!t || !selection.blocks) return -1;
    const int64_t block = position / t->chunk - queries.Position(0) / t->chunk;
    for (int64_t rank = 0; rank < t->blocks; ++rank) {
      if (selection.blocks[block * t->blocks + rank] == key / t->chunk) return 1 + block * t->blocks + rank;
    }
    return -1;
  }
  if (const PatternTerm* t = pattern.hierarchical()) {
    for (int64_t level = 1; level <= t->levels; ++level) {
      const KeyLayout::Level& rows = keys.levels[static_cast<size_t>(level - 1)];
      if (row < rows.first_row || row >= rows.first_row + rows.num_cells) continue;
      const int64_t cell = row - rows.first_row + rows.first_cell;
      const KeyRange past = t->PastCells(position, level), future = t->FutureCells(position, level);
      const auto in = [&](const KeyRange& r) { return cell >= r.first && cell <= r.last; };
      return in(past) || in(future) ? 0 : -1;
    }
  }
  const PatternTerm* t = pattern.memory();
  if (!t || keys.memory_row < 0 || row < keys.memory_row) return -1;
  return (row - keys.memory_row) / t->slots + keys.first_chunk == position / t->chunk ? 0 : -1;
}

}  // namespace earshot
