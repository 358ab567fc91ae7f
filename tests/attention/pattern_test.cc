#include "src/attention/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "src/base/error.h"
#include "tests/attention/random_pattern.h"

namespace earshot {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  try {
    Pattern::Parse(text);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

std::vector<int64_t> Seen(const std::string& text, int64_t query, int64_t num_keys) {
  const Pattern pattern = Pattern::Parse(text);
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < num_keys; ++key) {
    if (pattern.MaySee(query, key)) keys.push_back(key);
  }
  return keys;
}

TEST(PatternTest, TextAndBack) {
  for (const char* text :
       {"full", "full(causal=true)", "local(chunk=16,left=-1,lookahead=3)", "sliding(left=5,right=0)",
        "strided(every=32,reach=960,lookahead=1)", "blockwise(block=4,offsets=-2;-1;1)",
        "learned(block=16,blocks=3,reach=-1,lookahead=-1)",
        "hierarchical(chunk=8,left=16,lookahead=2,pool=4,levels=3,future=true)",
        "local(chunk=16,left=64,lookahead=0)+strided(every=32,reach=-1,lookahead=0)+memory(slots=8,chunk=16,lag=2)"}) {
    EXPECT_EQ(Pattern::Parse(text).ToString(), text);
  }
  Random random(11);
  for (int i = 0; i < 200; ++i) {
    const Pattern pattern = RandomPattern(random);
    EXPECT_EQ(Pattern::Parse(pattern.ToString()), pattern) << pattern.ToString();
  }
  EXPECT_EQ(Pattern::Parse(" local( chunk = 8 , left=2 ) +  sliding ").ToString(),
            "local(chunk=8,left=2,lookahead=0)+sliding(left=64,right=0)");
  EXPECT_EQ(Pattern::Parse("blockwise(block=2,offsets=3;-1;0;3)").ToString(), "blockwise(block=2,offsets=-1;3)");
  EXPECT_EQ(Pattern(), Pattern::Parse("full"));
}

TEST(PatternTest, ErrorsSayWhatIsWrongAndWhatIsNear) {
  EXPECT_THAT(ErrorOf("locla(chunk=4)"), HasSubstr("'local'"));
  EXPECT_THAT(ErrorOf("local(chnk=4)"), HasSubstr("'chunk'"));
  EXPECT_THAT(ErrorOf("local(chunk=four)"), HasSubstr("'four', expected a whole number"));
  EXPECT_THAT(ErrorOf("local(chunk=4x)"), HasSubstr("'4x'"));
  EXPECT_THAT(ErrorOf("local(chunk=4,left=8,chunk=8)"), HasSubstr("local(chunk=) is given twice"));
  EXPECT_THAT(ErrorOf("local(chunk=0)"), HasSubstr("local(chunk=) is 0, expected 1 or more"));
  EXPECT_THAT(ErrorOf("sliding(left=-2)"), HasSubstr("expected -1 or more"));
  EXPECT_THAT(ErrorOf("strided(lookahead=-1)"), HasSubstr("expected 0 or more"));
  EXPECT_THAT(ErrorOf("local(chunk=4"), HasSubstr("closing parenthesis"));
  EXPECT_THAT(ErrorOf("local(chunk)"), HasSubstr("lacks its value"));
  EXPECT_THAT(ErrorOf("full(causal=yes)"), HasSubstr("expected true or false"));
  EXPECT_THAT(ErrorOf("full+"), HasSubstr("empty term"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty term"));
  EXPECT_THAT(ErrorOf("memory(slots=4)"), HasSubstr("memory alone"));
  EXPECT_THAT(ErrorOf("local+memory+memory"), HasSubstr("memory 2 times"));
  EXPECT_THAT(ErrorOf("learned+learned"), HasSubstr("learned 2 times"));
  EXPECT_THAT(ErrorOf("learned(blocks=0)"), HasSubstr("expected 1 or more"));
  EXPECT_THAT(ErrorOf("hierarchical(pool=1)"), HasSubstr("expected 2 or more"));
  EXPECT_THAT(ErrorOf("hierarchical(levels=50)"), HasSubstr("at most 20"));
  EXPECT_THAT(ErrorOf("hierarchical(left=-1)"), HasSubstr("expected 0 or more"));
  EXPECT_THAT(ErrorOf("local(chunk=99999999999999999999)"), HasSubstr("expected a whole number"));
  EXPECT_THAT(ErrorOf("local(lookahead=9223372036854775807)"), HasSubstr("local(lookahead=)"));
  EXPECT_THAT(ErrorOf("blockwise(offsets=-9223372036854775807)"), HasSubstr("blockwise(offsets=)"));
  EXPECT_THAT(ErrorOf("hierarchical(pool=16,levels=16)"), HasSubstr("16^17 frames"));
  EXPECT_THAT(ErrorOf("hierarchical(pool=8,levels=18,left=1000000)"), HasSubstr("8^19 frames"));
}

TEST(PatternTest, WhatAFrameSeesByHand) {
  EXPECT_THAT(Seen("local(chunk=4,left=2,lookahead=1)", 5, 20), ElementsAre(2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(Seen("sliding(left=2,right=1)", 5, 20), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(Seen("sliding(left=-1,right=0)", 3, 20), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Seen("strided(every=4,reach=8,lookahead=0)", 13, 20), ElementsAre(8, 12));
  EXPECT_THAT(Seen("strided(every=4,reach=-1,lookahead=3)", 13, 20), ElementsAre(0, 4, 8, 12, 16));
  EXPECT_THAT(Seen("blockwise(block=3,offsets=-2;1)", 7, 20), ElementsAre(0, 1, 2, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(Seen("full(causal=true)", 2, 20), ElementsAre(0, 1, 2));
  EXPECT_THAT(Seen("sliding(left=1,right=0)+strided(every=5)+memory", 7, 20), ElementsAre(0, 5, 6, 7));
}

// The sentences of the header, written a second time.
TEST(PatternTest, WhatAFrameSeesByDefinition) {
  struct Case {
    const char* text;
    std::function<bool(int64_t, int64_t)> sees;
  };
  const std::vector<Case> cases = {
      {"full", [](int64_t, int64_t) { return true; }},
      {"full(causal=true)", [](int64_t q, int64_t k) { return k <= q; }},
      {"local(chunk=5,left=7,lookahead=3)",
       [](int64_t q, int64_t k) { return k >= q - q % 5 - 7 && k < q - q % 5 + 5 + 3; }},
      {"local(chunk=5,left=-1)", [](int64_t q, int64_t k) { return k < q - q % 5 + 5; }},
      {"sliding(left=3,right=2)", [](int64_t q, int64_t k) { return k - q <= 2 && q - k <= 3; }},
      {"sliding(left=-1,right=2)", [](int64_t q, int64_t k) { return k - q <= 2; }},
      {"strided(every=6,reach=13,lookahead=4)",
       [](int64_t q, int64_t k) { return k % 6 == 0 && q - k <= 13 && k - q <= 4; }},
      {"strided(every=6)", [](int64_t q, int64_t k) { return k % 6 == 0 && k <= q; }},
      {"blockwise(block=4,offsets=-3;-1;2)",
       [](int64_t q, int64_t k) {
         const int64_t d = k / 4 - q / 4;
         return d == 0 || d == -3 || d == -1 || d == 2;
       }},
  };
  for (const Case& c : cases) {
    const Pattern pattern = Pattern::Parse(c.text);
    for (int64_t q = 0; q < 40; ++q) {
      for (int64_t k = 0; k < 40; ++k) EXPECT_EQ(pattern.MaySee(q, k), c.sees(q, k)) << c.text << " " << q << " " << k;
    }
  }
}

// Every frame before the near window and within reach stands in just one cell, and none behind the frame does, unless
// the future is asked for.
TEST(PatternTest, CellsCoverThePastOnceEach) {
  Random random(8);
  for (int draw = 0; draw < 100; ++draw) {
    const Pattern pattern = Pattern::Parse(RandomHierarchy(random));
    const PatternTerm& t = *pattern.hierarchical();
    int64_t size = 1, reach = t.left;
    for (int64_t level = 1; level <= t.levels; ++level) {
      size *= t.pool;
      EXPECT_EQ(t.CellFrames(level), size);
      reach += t.left * size;
    }
    for (int64_t q = 0; q < 300; q += 1 + random.Index(5)) {
      std::vector<int> seen(600, 0);
      for (int64_t k = 0; k < 600; ++k) seen[static_cast<size_t>(k)] += pattern.MaySee(q, k) ? 1 : 0;
      for (int64_t level = 1; level <= t.levels; ++level) {
        for (const KeyRange& cells : {t.PastCells(q, level), t.FutureCells(q, level)}) {
          for (int64_t f = cells.first * t.CellFrames(level); f < (cells.last + 1) * t.CellFrames(level) && f < 600;
               ++f)
            ++seen[static_cast<size_t>(f)];
        }
      }
      const int64_t start = q / t.chunk * t.chunk, end = start + t.chunk + t.lookahead;
      const auto count = [&](int64_t frame) { return seen[static_cast<size_t>(frame)]; };
      for (int64_t k = 0; k < 600; ++k)
        ASSERT_LE(count(k), 1) << pattern.ToString() << " query " << q << " frame " << k;
      for (int64_t k = std::max<int64_t>(0, start - reach); k < end; ++k)
        ASSERT_EQ(count(k), 1) << pattern.ToString() << " query " << q << " frame " << k;
      for (int64_t k = std::max<int64_t>(0, start - t.left); k < end; ++k)
        ASSERT_TRUE(pattern.MaySee(q, k)) << pattern.ToString() << " query " << q << " frame " << k;
      if (!t.future) {
        ASSERT_EQ(*std::max_element(seen.begin() + end, seen.end()), 0) << pattern.ToString() << " query " << q;
      } else if (t.left > 0) {
        ASSERT_EQ(*std::max_element(seen.begin() + end, seen.end()), 1) << pattern.ToString() << " query " << q;
      }
    }
  }
}

TEST(PatternTest, ReadyQueriesMissNothingThatIsStillToCome) {
  Random random(2);
  for (int draw = 0; draw < 200; ++draw) {
    const Pattern pattern = RandomPattern(random);
    int64_t before = 0;
    for (int64_t received = 0; received < 60; ++received) {
      const int64_t ready = pattern.ReadyQueries(received);
      ASSERT_GE(ready, before) << pattern.ToString();
      ASSERT_LE(ready, received) << pattern.ToString();
      before = ready;
      for (int64_t q = 0; q < ready; ++q) {
        for (int64_t k = received; k < received + 60; ++k)
          ASSERT_FALSE(pattern.MaySee(q, k)) << pattern.ToString() << ": query " << q << " waits for key " << k;
        if (const PatternTerm* t = pattern.hierarchical()) {
          for (int64_t level = 1; level <= t->levels; ++level)
            ASSERT_LE((t->FutureCells(q, level).last + 1) * t->CellFrames(level), received) << pattern.ToString();
        }
        if (const PatternTerm* t = pattern.learned()) {
          ASSERT_LE((t->Candidates(q / t->chunk).last + 1) * t->chunk, received) << pattern.ToString();
        }
      }
    }
    // And none waits longer than the pattern's lookahead says.
    for (int64_t q = 0; q < 40; ++q) {
      ASSERT_GT(pattern.ReadyQueries(q + pattern.Lookahead() + 1), q) << pattern.ToString() << " query " << q;
      ASSERT_FALSE(pattern.MaySee(q, q + pattern.Lookahead() + 1)) << pattern.ToString() << " query " << q;
    }
  }
  EXPECT_EQ(Pattern().ReadyQueries(1000), 0);
  EXPECT_EQ(Pattern().Lookahead(), -1);
  EXPECT_EQ(Pattern::Parse("local(chunk=4,left=8,lookahead=2)").ReadyQueries(11), 8);
  EXPECT_EQ(Pattern::Parse("local(chunk=4,left=8,lookahead=2)").Lookahead(), 5);
}

TEST(PatternTest, ForgettableKeysAreNeverSeenAgain) {
  Random random(3);
  for (int draw = 0; draw < 200; ++draw) {
    const Pattern pattern = RandomPattern(random);
    for (int64_t next = 0; next < 50; ++next) {
      for (int64_t k = 0; k < 60; ++k) {
        if (!pattern.Forgettable(k, next)) continue;
        for (int64_t q = next; q < next + 60; ++q)
          ASSERT_FALSE(pattern.MaySee(q, k)) << pattern.ToString() << ": key " << k << " forgotten before query " << q;
      }
    }
    // A bounded pattern forgets everything in the end, an unbounded one keeps the first frame.
    EXPECT_EQ(pattern.Bounded(), pattern.Forgettable(0, 100000)) << pattern.ToString();
    if (!pattern.Bounded()) continue;
    for (int64_t k = 0; k < 9900; ++k) ASSERT_TRUE(pattern.Forgettable(k, 10000)) << pattern.ToString() << " key " << k;
  }
  EXPECT_FALSE(Pattern().Bounded());
  EXPECT_FALSE(Pattern::Parse("local+strided(reach=-1)").Bounded());
  EXPECT_TRUE(Pattern::Parse("local+strided(reach=512)+memory").Bounded());
}

TEST(PatternTest, FullAndMemoryAreFound) {
  EXPECT_TRUE(Pattern::Parse("local+full").IsFull());
  EXPECT_FALSE(Pattern::Parse("full(causal=true)").IsFull());
  EXPECT_EQ(Pattern::Parse("local").memory(), nullptr);
  const Pattern pattern = Pattern::Parse("local+memory(slots=3)");
  ASSERT_NE(pattern.memory(), nullptr);
  EXPECT_EQ(pattern.memory()->slots, 3);
}

}  // namespace
}  // namespace earshot
