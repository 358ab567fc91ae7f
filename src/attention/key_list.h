// From a pattern to the lists that kernels read: which rows of the keys each unit of queries sees.
//
//   KeyLayout keys{.num_frames = 1000, .valid_frames = 1000};
//   QueryLayout queries{.num_queries = 1000};
//   KeyUnit unit;
//   BuildKeyUnit(pattern, queries, keys, {.first = 512, .count = 488}, &unit);
//
// The rows of the key matrix are frames, then the cells of a hierarchy level by level, then the memory of each chunk.
// Lists are made where they are read, unit by unit, so that the longest recording needs no more room than one unit.
// A row that several terms of a pattern list is listed once. Thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "src/attention/key_units.h"
#include "src/attention/pattern.h"

namespace earshot {

struct QueryLayout {
  int64_t num_queries = 0;
  // Queries are the frames first, first + 1, ... of the stream, or those at `positions`, ascending.
  int64_t first = 0;
  std::vector<int64_t> positions;

  int64_t Position(int64_t query) const {
    return positions.empty() ? first + query : positions[static_cast<size_t>(query)];
  }
};

struct KeyLayout {
  int64_t num_frames = 0;
  // Of these, the first so many are there; the others are padding.
  int64_t valid_frames = 0;
  // Position of each frame in the stream, ascending; empty: 0, 1, 2, ...
  std::vector<int64_t> positions;

  // Cells first_cell ... first_cell + num_cells - 1 of a level stand in the rows from first_row on.
  struct Level {
    int64_t first_row = 0, first_cell = 0, num_cells = 0;
    bool operator==(const Level&) const = default;
  };
  std::vector<Level> levels;  // level 1 first

  // The memory of chunk first_chunk + b stands in the `slots` rows from memory_row + b slots on; -1: no memory.
  int64_t memory_row = -1, first_chunk = 0, num_chunks = 0;

  int64_t Position(int64_t frame) const { return positions.empty() ? frame : positions[static_cast<size_t>(frame)]; }
  // The first frame whose position is `position` or more.
  int64_t FrameAt(int64_t position) const;
};

// What learned selection chose for one utterance.
struct BlockSelection {
  // (num_blocks, blocks): for the block that holds the first query, and those after it; -1: none. Null: nothing chosen.
  const int64_t* blocks = nullptr;
  int64_t num_blocks = 0;
};

struct UnitRange {
  int64_t first = 0, count = 0;  // queries
};

// What a list leaves out.
struct KeyDrop {
  const float* bias = nullptr;  // of each row, natural log; null: nothing is left out
  float below = 0;              // rows with less bias are
};

// Fills `unit` (its memory is used again). The entries of KeyEntry::score are (block - first block) blocks + rank.
void BuildKeyUnit(const Pattern& pattern, const QueryLayout& queries, const KeyLayout& keys,
                  const BlockSelection& selection, const KeyDrop& drop, const UnitRange& range, KeyUnit* unit);

// The same by the definition, one query and one row at a time: may query see row? For the reference; -1: it may not,
// else 0, or 1 + the index of the score that is added.
int64_t SeesRow(const Pattern& pattern, const QueryLayout& queries, const KeyLayout& keys,
                const BlockSelection& selection, int64_t query, int64_t row);

}  // namespace earshot
