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
  EXPECT_THAT(ErrorOf("local(chunk=0)"), HasSubstr("local(chunk=) is 0, expected 1 or more"));
  EXPECT_THAT(ErrorOf("sliding(left=-2)"), HasSubstr("expected -1 or more"));
  EXPECT_THAT(ErrorOf("strided(lookahead=-1)"), HasSubstr("expected 0 or more"));
  EXPECT_THAT(ErrorOf("local(chunk=4"), HasSubstr("closing parenthesis"));
  EXPECT_THAT(ErrorOf("local(chunk)"), HasSubstr("lacks its value"));
  EXPECT_THAT(ErrorOf("full(causal=yes)"), HasSubstr("expected true or false"));
  EXPECT_THAT(ErrorOf("full+"), HasSubstr("empty term"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty term"));
  EXPECT_THAT(ErrorOf("memory(slots=4)"), HasSubstr("memory alone"));
  EXPECT_THAT(ErrorOf("local+memory+memory"), HasSubstr("2 times"));
  EXPECT_THAT(ErrorOf("local(chunk=99999999999999999999)"), HasSubstr("expected a whole number"));
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

TEST(PatternTest, KeysAreAllThatSomeQueryMaySee) {
  Random random(1);
  for (int draw = 0; draw < 400; ++draw) {
    const Pattern pattern = draw == 0 ? Pattern() : RandomPattern(random);
    const int64_t first = random.Index(50), last = first + random.Index(20), num_keys = random.Index(70);
    std::vector<int64_t> expected;
    for (int64_t k = 0; k < num_keys; ++k) {
      for (int64_t q = first; q <= last; ++q) {
        if (pattern.MaySee(q, k)) {
          expected.push_back(k);
          break;
        }
      }
    }
    EXPECT_EQ(pattern.Keys(first, last, num_keys), expected)
        << pattern.ToString() << " queries " << first << " to " << last << " of " << num_keys;
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
