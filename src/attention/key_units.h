// The one form that every pattern takes before a kernel computes it: for a unit of consecutive queries, the list of the
// keys that any of them sees, each with the queries that see it.
//
//   KeyUnit unit;
//   unit.first_query = 0, unit.num_queries = 4;
//   unit.keys = {{.row = 7, .first = 1, .end = 3}};       // queries 1 and 2 see row 7 of the keys
//
// A hybrid is a concatenation of such lists, a gate a shorter one, a pooled summary or a memory vector a row behind the
// frames. No mask is ever stored: a kernel compares the query with the two bounds, and only where they cut a tile.
#pragma once

#include <cstdint>
#include <vector>

namespace earshot {

// Queries of a unit at most: long enough that keys are packed 1.5 times for a window of 256, short enough that a thread
// needs some 200 KB for them.
inline constexpr int kUnitQueries = 512;

struct KeyEntry {
  // Row of the key and value matrices.
  int32_t row = 0;
  // Queries [first, end) of the unit see it, counted from the unit's first. Where the queries that see a row are no one
  // range, the row has an entry for each range; the ranges of a row never overlap.
  int32_t first = 0, end = 0;
  // Index into the scores of learned selection, which are added to the logits of this entry. -1: nothing is.
  int32_t score = -1;

  bool operator==(const KeyEntry&) const = default;
};

struct KeyUnit {
  int64_t first_query = 0;  // row of the query and output matrices
  int32_t num_queries = 0;  // 1 to kUnitQueries
  // Ordered so that neighbours are seen by nearly the same queries: mostly by row.
  std::vector<KeyEntry> keys;
};

}  // namespace earshot
