#include "src/attention/key_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "src/attention/hybrid_attention.h"
#include "tests/attention/random_pattern.h"
#include "tests/attention/random_selection.h"

namespace earshot {
namespace {

// What the entries say of each query and row: 0 or the score seen, as SeesRow says it. A pair listed twice fails.
std::map<std::pair<int64_t, int64_t>, int64_t> Listed(const KeyUnit& unit) {
  std::map<std::pair<int64_t, int64_t>, int64_t> pairs;
  for (const KeyEntry& e : unit.keys) {
    EXPECT_LT(e.first, e.end);
    EXPECT_GE(e.first, 0);
    EXPECT_LE(e.end, unit.num_queries);
    for (int64_t q = e.first; q < e.end; ++q) {
      const bool fresh = pairs.emplace(std::make_pair(unit.first_query + q, e.row), 1 + e.score).second;
      EXPECT_TRUE(fresh) << "query " << unit.first_query + q << " sees row " << e.row << " twice";
    }
  }
  return pairs;
}

TEST(KeyListTest, ListsAreTheDefinition) {
  Random random(21);
  for (int draw = 0; draw < 400; ++draw) {
    const Pattern pattern = draw == 0 ? Pattern() : RandomPattern(random);
    PlanOptions o{.num_queries = 1 + random.Index(40)};
    const bool gaps = random.Chance(0.4);
    if (gaps) {  // as in a stream of which frames were dropped
      o.first_query = random.Index(30);
      int64_t p = o.first_query;
      for (int64_t q = 0; q < o.num_queries; ++q, p += 1 + random.Index(3)) o.query_positions.push_back(p);
      for (int64_t k = 0; k < p + 5; ++k) {
        if (random.Chance(0.7)) o.key_positions.push_back(k);
      }
      o.num_keys = static_cast<int64_t>(o.key_positions.size());
    } else {
      o.num_keys = o.num_queries;
    }
    const AttentionPlan plan = MakeAttentionPlan(pattern, o);
    KeyLayout keys = plan.keys;
    keys.valid_frames = random.Chance(0.5) ? keys.num_frames : random.Index(keys.num_frames + 1);
    std::vector<int64_t> blocks;
    BlockSelection selection;
    if (const PatternTerm* t = pattern.learned()) {
      const int64_t first = plan.queries.Position(0) / t->chunk;
      const int64_t last = plan.queries.Position(o.num_queries - 1) / t->chunk;
      blocks = RandomSelection(*t, first, last - first + 1, last + 3, random);
      selection = {.blocks = blocks.data(), .num_blocks = last - first + 1};
    }
    std::vector<float> bias(static_cast<size_t>(plan.num_rows));
    for (float& b : bias) b = -static_cast<float>(random.Index(4));
    const KeyDrop drop{.bias = random.Chance(0.5) ? bias.data() : nullptr, .below = -2};
    KeyUnit unit;
    for (int64_t begin = 0; begin < o.num_queries;) {
      const int64_t count = std::min(1 + random.Index(16), o.num_queries - begin);
      BuildKeyUnit(pattern, plan.queries, keys, selection, drop, {.first = begin, .count = count}, &unit);
      EXPECT_EQ(unit.first_query, begin);
      EXPECT_EQ(unit.num_queries, count);
      const auto listed = Listed(unit);
      for (int64_t q = begin; q < begin + count; ++q) {
        for (int64_t row = 0; row < plan.num_rows; ++row) {
          const auto found = listed.find({q, row});
          int64_t expected = SeesRow(pattern, plan.queries, keys, selection, q, row);
          if (drop.bias && bias[static_cast<size_t>(row)] < drop.below) expected = -1;
          ASSERT_EQ(found == listed.end() ? -1 : found->second, expected)
              << pattern.ToString() << ", query " << q << " of " << o.num_queries << ", row " << row << " of "
              << plan.num_rows << (gaps ? ", with gaps" : "");
        }
      }
      begin += count;
    }
  }
}

TEST(KeyListTest, ByHand) {
  KeyUnit unit;
  const QueryLayout queries{.num_queries = 8};
  BuildKeyUnit(Pattern::Parse("sliding(left=1,right=0)+strided(every=4,reach=-1)"), queries,
               {.num_frames = 8, .valid_frames = 6}, {}, {}, {.first = 4, .count = 3}, &unit);
  // Frame 4 is an anchor and near by: once, for all that see it.
  const std::vector<KeyEntry> expected = {{.row = 0, .first = 0, .end = 3},
                                          {.row = 3, .first = 0, .end = 1},
                                          {.row = 4, .first = 0, .end = 3},
                                          {.row = 5, .first = 1, .end = 3}};
  EXPECT_EQ(unit.keys, expected);
}

// Kernels take 16 entries together, and compute them for every query that sees any: those entries had better be seen by
// the same ones.
TEST(KeyListTest, NeighboursAreSeenByTheSameQueries) {
  for (const char* text : {"blockwise(block=64,offsets=-4;-2)", "learned(block=64,blocks=4,reach=8,lookahead=0)"}) {
    const Pattern pattern = Pattern::Parse(text);
    constexpr int64_t kFrames = 1024, kBlocks = 16, kChosen = 4;
    std::vector<int64_t> chosen(kBlocks * kChosen, -1);
    for (int64_t b = 0; b < kBlocks; ++b) {
      for (int64_t i = 0; i < std::min(b, kChosen); ++i) chosen[static_cast<size_t>(b * kChosen + i)] = b * i / kChosen;
    }
    KeyUnit unit;
    BuildKeyUnit(pattern, {.num_queries = kFrames}, {.num_frames = kFrames, .valid_frames = kFrames},
                 {.blocks = chosen.data(), .num_blocks = kBlocks}, {}, {.first = 512, .count = 512}, &unit);
    ASSERT_GT(unit.keys.size(), 512) << text;
    for (size_t i = 0; i < unit.keys.size(); ++i) {
      const KeyEntry &entry = unit.keys[i], &first = unit.keys[i / 16 * 16];
      EXPECT_EQ(entry.first, first.first) << text << ", entry " << i;
      EXPECT_EQ(entry.end, first.end) << text << ", entry " << i;
    }
  }
}

}  // namespace
}  // namespace earshot
