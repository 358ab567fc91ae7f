// The lists that the library builds, emulated or on a GPU, against Pattern::MaySee and plain loops.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "src/attention/cuda/pattern_terms.h"
#include "src/attention/cuda/scan_sort.h"
#include "tests/attention/cuda_emulation/attention_problem.h"
#include "tests/attention/random_pattern.h"

namespace earshot {
namespace {

// The score with which query i of utterance u sees the block of frame j by selection; -1: it does not.
int32_t ChosenScore(const CudaSelection& s, int32_t u, int32_t i, int32_t j) {
  for (int32_t r = 0; r < s.chosen; ++r) {
    const int32_t score = (u * s.num_blocks + i / s.block) * s.chosen + r;
    if (s.blocks[score] == j / s.block) return score;
  }
  return -1;
}

// Every query sees what the pattern shows it and the gate leaves, each row once and by a term if it can; the ranges of
// a row are apart, and rows ascend within a term, so that neighbours are seen alike. Where queries are dropped, those
// at the ends of a tile see nothing.
void CheckLists(const AttentionProblem& problem, const Pattern& pattern, const float* threshold) {
  const auto lists = problem.Entries();
  const CudaQueryTile* tiles = problem.arguments.lists.tiles;
  CudaListArguments terms;
  ASSERT_TRUE(AddPatternTerms(pattern, &terms));
  const CudaSelection& selection = problem.selection;
  size_t t = 0;
  for (size_t u = 0; u < problem.utterances.size(); ++u) {
    const CudaUtterance& utterance = problem.utterances[u];
    const int32_t start = utterance.start, end = start + utterance.length;
    for (int32_t query = start; query < end; query += kCudaTileQueries, ++t) {
      ASSERT_LT(t, lists.size());
      EXPECT_EQ(tiles[t].first_query, query);
      EXPECT_EQ(tiles[t].num_queries, std::min(end - query, kCudaTileQueries));
      std::vector<std::vector<int>> seen(tiles[t].num_queries, std::vector<int>(end - start));
      std::vector<std::vector<int32_t>> scores(tiles[t].num_queries, std::vector<int32_t>(end - start, -1));
      std::map<int32_t, std::vector<CudaKeyEntry>> of_row;
      int descents = 0;
      int32_t last_row = -1;
      for (const CudaKeyEntry& e : lists[t]) {
        ASSERT_TRUE(e.first < e.end && e.end <= tiles[t].num_queries && e.row >= start && e.row < end);
        for (int i = e.first; i < e.end; ++i) ++seen[i][e.row - start], scores[i][e.row - start] = e.score;
        descents += e.row < last_row && e.score < 0 ? 1 : 0;
        last_row = e.row;
        for (const CudaKeyEntry& other : of_row[e.row])
          EXPECT_TRUE(other.end < e.first || e.end < other.first || other.score != e.score)
              << "ranges that should be one";
        of_row[e.row].push_back(e);
      }
      EXPECT_LT(descents, terms.num_terms);
      int kept_first = 0, kept_end = tiles[t].num_queries;
      if (problem.arguments.query_values) {
        while (kept_first < kept_end && problem.bias[query + kept_first] < *threshold) ++kept_first;
        while (kept_first < kept_end && problem.bias[query + kept_end - 1] < *threshold) --kept_end;
      }
      for (int i = 0; i < tiles[t].num_queries; ++i) {
        for (int32_t j = 0; j < end - start; ++j) {
          const int32_t frame = query - start + i;
          const bool by_term = pattern.MaySee(frame, j);
          const int32_t score =
              selection.blocks && !by_term ? ChosenScore(selection, static_cast<int32_t>(u), frame, j) : -1;
          const bool expected = i >= kept_first && i < kept_end && (by_term || score >= 0) &&
                                (!threshold || problem.bias[start + j] >= *threshold);
          ASSERT_EQ(seen[i][j], expected) << pattern.ToString() << ": query " << frame << ", key " << j;
          if (!expected) continue;
          ASSERT_EQ(scores[i][j], score) << pattern.ToString() << ": query " << frame << ", key " << j;
        }
      }
    }
  }
  EXPECT_EQ(t, lists.size());
}

TEST(KeyListsCudaTest, IsWhatThePatternShows) {
  const float threshold = -1;
  for (const char* text :
       {"full", "full(causal=true)", "local(chunk=16,left=64,lookahead=4)", "local(chunk=7,left=-1,lookahead=3)",
        "sliding(left=70,right=7)", "sliding(left=-1,right=0)", "strided(every=32,reach=96,lookahead=5)",
        "strided(every=5)", "blockwise(block=16,offsets=-3;-1;1)", "blockwise(block=3,offsets=-3;-1)",
        "blockwise(block=1,offsets=-7;-5;-3;2;4;6)", "blockwise(block=200,offsets=-1)",
        "local(chunk=16,left=32)+strided(every=32,reach=960)+blockwise(block=10,offsets=-4;-2)+sliding(left=2,right=2)",
        "sliding(left=2,right=1)+full", "learned(block=64,blocks=3,reach=-1,lookahead=-1)",
        "learned(block=1,blocks=2,reach=30,lookahead=0)", "learned(block=400,blocks=1,reach=-1,lookahead=-1)",
        "learned(block=10,blocks=5,reach=-1,lookahead=-1)+local(chunk=16,left=32)+strided(every=32,reach=200)",
        "sliding(left=20,right=3)+learned(block=7,blocks=4,reach=20,lookahead=2)+blockwise(block=9,offsets=-4;-2)"}) {
    AttentionProblem problem({.heads = 1, .kv_heads = 1, .head_dim = 4, .lengths = {130, 1, 64, 300}, .bias = true});
    problem.AddPattern(text);
    CheckLists(problem, Pattern::Parse(text), nullptr);
    AttentionProblem gated({.heads = 1, .kv_heads = 1, .head_dim = 4, .lengths = {130, 1, 64, 300}, .bias = true});
    gated.AddPattern(text, &threshold);
    CheckLists(gated, Pattern::Parse(text), &threshold);
  }
}

TEST(KeyListsCudaTest, RandomPatterns) {
  Random random(5);
  for (int i = 0; i < 60; ++i) {
    std::string text = RandomTerm(random);
    for (int64_t n = random.Index(3); n > 0; --n) text += "+" + RandomTerm(random);
    if (random.Chance(0.4)) text += "+" + RandomLearned(random);
    CudaListArguments unused;
    if (!AddPatternTerms(Pattern::Parse(text), &unused)) continue;
    AttentionProblem problem({.heads = 1,
                              .kv_heads = 1,
                              .head_dim = 4,
                              .lengths = {static_cast<int32_t>(1 + random.Index(150)), 67},
                              .gap = static_cast<int32_t>(random.Index(2) * random.Index(90)),
                              .bias = true});
    const float threshold = static_cast<float>(random.Uniform(-2, 0));
    const bool gated = random.Chance(0.5);
    problem.AddPattern(text, gated ? &threshold : nullptr, gated && random.Chance(0.7));
    CheckLists(problem, Pattern::Parse(text), gated ? &threshold : nullptr);
  }
}

TEST(KeyListsCudaTest, CompactsGivenLists) {
  const float threshold = -1;
  AttentionProblem problem({.head_dim = 4, .lengths = {100, 30}, .bias = true, .scores = true});
  problem.AddRandomEntries(50, true);
  const auto before = problem.Entries();
  problem.AddPattern("", &threshold);
  const auto after = problem.Entries();
  ASSERT_EQ(before.size(), after.size());
  for (size_t t = 0; t < before.size(); ++t) {
    using Key = std::tuple<int, int, int, int>;
    std::multiset<Key> expected, found;
    for (const CudaKeyEntry& e : before[t])
      if (problem.bias[e.row] >= threshold) expected.insert({e.row, e.first, e.end, e.score});
    for (const CudaKeyEntry& e : after[t]) found.insert({e.row, e.first, e.end, e.score});
    EXPECT_EQ(expected, found);
  }
}

TEST(KeyListsCudaTest, TermsAtTheEdgeOfNumbers) {
  // All distances that are allowed, on positions near none of them.
  DeviceVector<CudaUtterance> utterances = {{0, 70}};
  for (const CudaTerm& term :
       {CudaTerm{kCudaEndless, kCudaEndless, -kCudaEndless, kCudaEndless}, CudaTerm{1, 1, kCudaEndless, kCudaEndless},
        CudaTerm{1, 1, -kCudaEndless, -kCudaEndless}, CudaTerm{kCudaEndless, 1, 0, 5},
        CudaTerm{1, kCudaEndless, -5, kCudaEndless}, CudaTerm{3, 2, 4, 1}}) {
    CudaListArguments arguments;
    arguments.terms[arguments.num_terms++] = term;
    arguments.num_utterances = 1;
    arguments.host_utterances = arguments.device_utterances = utterances.data();
    DeviceVector<char> memory(EarshotCudaAttention()->key_lists_bytes(arguments));
    CudaKeyLists lists;
    ASSERT_EQ(EarshotCudaAttention()->build_key_lists(arguments, memory.data(), &lists, nullptr), 0);
    ASSERT_EQ(Synchronize(), 0);
    std::set<std::pair<int, int>> expected, found;
    for (int64_t i = 0; i < 70; ++i) {
      const int64_t start = i / term.chunk * term.chunk;
      for (int64_t j = 0; j < 70; ++j)
        if (j % term.step == 0 && start + term.from <= j && j <= start + term.to) expected.insert({i, j});
    }
    for (int t = 0; t < lists.num_tiles; ++t) {
      for (int e = lists.tile_offsets[t]; e < lists.tile_offsets[t + 1]; ++e) {
        for (int i = lists.entries[e].first; i < lists.entries[e].end; ++i)
          EXPECT_TRUE(found.insert({lists.tiles[t].first_query + i, lists.entries[e].row}).second);
      }
    }
    EXPECT_EQ(expected, found);
  }
}

TEST(KeyListsCudaTest, BadArguments) {
  CudaListArguments arguments;
  const CudaKeyLists also;
  arguments.also = &also, arguments.num_terms = 1;
  EXPECT_LT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  arguments.also = nullptr;
  std::vector<CudaUtterance> utterances = {{0, 70}, {70, 3}};
  arguments.num_utterances = 2, arguments.host_utterances = arguments.device_utterances = utterances.data();
  arguments.terms[0].chunk = 0, arguments.num_terms = 1;
  EXPECT_LT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  arguments.terms[0].chunk = 1;
  EXPECT_GT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  const std::vector<int64_t> blocks(2 * 7 * 2, -1);
  arguments.selection = {blocks.data(), 7, 2, 10};
  EXPECT_GT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  arguments.selection.num_blocks = 6;  // the longest utterance has 7
  EXPECT_LT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  arguments.selection = {blocks.data(), 7, 2, 0};
  EXPECT_LT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  arguments.selection = {};
  utterances[1].start = 69;
  EXPECT_LT(EarshotCudaAttention()->key_lists_bytes(arguments), 0);
  Pattern pattern =
      Pattern::Parse("blockwise(block=1,offsets=-2;-4;-6;-8;-10;-12;-14;-16;-18;-20;-22;-24;-26;-28;-30;-32)");
  arguments.num_terms = 0;
  EXPECT_FALSE(AddPatternTerms(pattern, &arguments));
  EXPECT_EQ(arguments.num_terms, 0);
}

TEST(TransposedListsCudaTest, HoldsEveryEntryOnceInOrder) {
  for (const bool several : {false, true}) {
    AttentionProblem problem(
        {.heads = 1, .kv_heads = 1, .head_dim = 4, .lengths = {300, 70, 1}, .extra_keys = 3, .scores = true});
    problem.AddRandomEntries(150, several);
    problem.Forward();
    problem.Backward();
    const CudaTransposedLists& l = problem.gradients.transposed;
    const int32_t count = problem.arguments.lists.tile_offsets[problem.arguments.lists.num_tiles];
    ASSERT_EQ(l.num_key_tiles, (problem.num_keys + 63) / 64);
    std::vector<int32_t> rows(l.row_order, l.row_order + problem.num_keys);
    std::sort(rows.begin(), rows.end());
    for (int32_t i = 0; i < problem.num_keys; ++i) EXPECT_EQ(rows[i], i);
    using Key = std::tuple<int, int, int, int, int>;
    std::multiset<Key> expected, found;
    const auto entries = problem.Entries();
    for (size_t t = 0; t < entries.size(); ++t)
      for (const CudaKeyEntry& e : entries[t]) expected.insert({static_cast<int>(t), e.row, e.first, e.end, e.score});
    int32_t end = 0;
    for (int32_t k = 0; k < l.num_key_tiles; ++k) {
      int32_t tile = -1;
      for (int32_t s = l.segment_offsets[k]; s < l.segment_offsets[k + 1]; ++s) {
        const CudaSegment& segment = l.segments[s];
        EXPECT_TRUE(segment.layer > 0 ? segment.tile == tile : segment.tile > tile && segment.begin == end);
        tile = segment.tile, end = segment.end;
        std::set<int> slots;
        for (int32_t i = segment.begin; i < segment.end; ++i) {
          const CudaTransposedEntry& e = l.entries[i];
          EXPECT_EQ(e.tile, tile);
          if (e.layer != segment.layer) continue;
          EXPECT_TRUE(slots.insert(e.slot).second) << "two entries of one row in a segment";
          found.insert({e.tile, l.row_order[k * 64 + e.slot], e.first, e.end, e.score});
        }
        EXPECT_FALSE(slots.empty());
      }
    }
    EXPECT_EQ(end, count);
    EXPECT_EQ(expected, found);
    for (int32_t s = 0; s < problem.num_scores; ++s) {
      for (int32_t i = l.score_offsets[s]; i < l.score_offsets[s + 1]; ++i)
        EXPECT_EQ(l.entries[l.score_entries[i]].score, s);
    }
    const auto scored =
        std::count_if(expected.begin(), expected.end(), [](const Key& k) { return std::get<4>(k) >= 0; });
    EXPECT_EQ(l.score_offsets[0], 0);
    EXPECT_EQ(l.score_offsets[problem.num_scores], scored);
  }
}

TEST(TransposedListsCudaTest, AnchorsShareATile) {
  AttentionProblem problem({.heads = 1, .kv_heads = 1, .head_dim = 4, .lengths = {2000}});
  problem.AddPattern("local(chunk=16,left=64)+strided(every=32)");
  problem.Forward();
  problem.Backward();
  const CudaTransposedLists& l = problem.gradients.transposed;
  // 63 anchors are seen by most of the 32 tiles; rows near by by two or three.
  EXPECT_LT(l.segment_offsets[l.num_key_tiles], 32 + 32 * 6);
}

TEST(ScanSortTest, SumsWhatComesBefore) {
  Random random(3);
  for (const int64_t count : {0, 1, 5, 1023, 1024, 1025, 300000}) {
    DeviceVector<int32_t> values(count + 1), scratch(cuda::ScanScratch(count) + 1);
    for (int32_t& v : values) v = static_cast<int32_t>(random.Index(9));
    DeviceVector<int32_t> expected(count + 1);
    for (int64_t i = 0; i < count; ++i) expected[i + 1] = expected[i] + values[i];
    ASSERT_EQ(cuda::ExclusiveScan(values.data(), count, scratch.data(), nullptr), 0);
    ASSERT_EQ(Synchronize(), 0);
    EXPECT_EQ(values, expected);
  }
}

TEST(ScanSortTest, SortsAndKeepsTheOrderOfEquals) {
  Random random(4);
  for (const int64_t capacity : {1, 31, 256, 2048, 2049, 10000}) {
    for (const int bits : {1, 6, 8, 11, 20}) {
      const DeviceVector<int32_t> size = {
          static_cast<int32_t>(capacity - random.Index(std::min<int64_t>(capacity, 700)))};
      const int32_t count = size[0];
      DeviceVector<uint32_t> keys(capacity), other_keys(capacity);
      DeviceVector<int32_t> values(capacity), other_values(capacity), scratch(cuda::SortScratch(capacity));
      std::vector<std::pair<uint32_t, int32_t>> expected;
      for (int64_t i = 0; i < capacity; ++i) {
        keys[i] = random.Next() >> (32 - bits), values[i] = static_cast<int32_t>(i);
        if (i < count) expected.emplace_back(keys[i], values[i]);
      }
      std::stable_sort(expected.begin(), expected.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      cuda::SortPairs pairs = {keys.data(), values.data()}, other = {other_keys.data(), other_values.data()};
      ASSERT_EQ(cuda::StableSort(pairs, other, {size.data(), capacity}, bits, scratch.data(), nullptr), 0);
      ASSERT_EQ(Synchronize(), 0);
      for (int32_t i = 0; i < count; ++i) {
        ASSERT_EQ(pairs.keys[i], expected[i].first);
        ASSERT_EQ(pairs.values[i], expected[i].second);
      }
    }
  }
}

}  // namespace
}  // namespace earshot
