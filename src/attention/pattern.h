// Where a frame may look: the sparse half of hybrid attention.
//
//   Pattern pattern =
//   Pattern::Parse("local(chunk=16,left=64,lookahead=0)+strided(every=32,reach=960)+memory(slots=8,chunk=16)");
//   pattern.MaySee(100, 64);          // an anchor: 64 % 32 == 0
//   pattern.ToString();               // the same text again
//
// A pattern is a value: recipes write it, the model folder stores it, plots draw it, and the
// reference operator asks it frame by frame. Positions are encoder frames from the start of the
// utterance or stream. Terms are joined by '+'; a frame sees the union. The terms:
//
//   full                                     every frame; full(causal=true): none after the frame
//   local(chunk=C,left=L,lookahead=A)        the chunk of C frames that holds the frame, L frames before
//                                            that chunk, A frames after it (left=-1: all before)
//   sliding(left=L,right=R)                  L frames before and R after the frame itself
//   strided(every=K,reach=M,lookahead=A)     the anchors j with j % K == 0, not further back than M frames
//                                            from the anchor grid (reach=-1: any), and at most A frames ahead
//   blockwise(block=B,offsets=-2;-1;1)       the frame's block of B and the blocks at these distances
//   memory(slots=M,chunk=C,lag=G)            M vectors that carry the chunks of C frames older than the
//                                            frame's own chunk by more than G (no frame at all, see MemoryBank)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace earshot {

enum class PatternKind { kFull, kLocal, kSliding, kStrided, kBlockwise, kMemory };

// One term; which fields count depends on the kind. Unused fields keep their defaults.
struct PatternTerm {
  PatternKind kind = PatternKind::kFull;
  bool causal = false;
  int64_t chunk = 16;
  int64_t left = 64;
  int64_t lookahead = 0;
  int64_t every = 32;
  int64_t reach = -1;
  std::vector<int64_t> offsets;
  int64_t slots = 8;
  int64_t lag = 0;

  bool operator==(const PatternTerm&) const = default;
  bool MaySee(int64_t query, int64_t key) const;
};

// Keys first..last, inclusive; first > last: none.
struct KeyRange {
  int64_t first = 0;
  int64_t last = -1;
};

class Pattern {
 public:
  Pattern() : terms_(1) {}
  // Throws Error with the term, what was found, and the nearest known name.
  static Pattern Parse(const std::string& text);
  std::string ToString() const;

  // May frame `query` see frame `key`? Both from 0; the end of the utterance is the caller's business.
  bool MaySee(int64_t query, int64_t key) const;

  // The keys within [0, num_keys) that any query of [first, last] may see: sorted, each once.
  std::vector<int64_t> Keys(int64_t first, int64_t last, int64_t num_keys) const;

  // How many queries, counted from 0, are complete once the first `received` frames are known.
  int64_t ReadyQueries(int64_t received) const;
  // May key be forgotten when all queries before `next_query` are done?
  bool Forgettable(int64_t key, int64_t next_query) const;
  // Whether state stays bounded in an endless stream; false for full, left=-1 and endless anchors.
  bool Bounded() const;
  // The frames of right context that one layer adds: 0 when strictly causal, -1 when unlimited.
  int64_t Lookahead() const;
  bool IsFull() const;

  const std::vector<PatternTerm>& terms() const { return terms_; }
  // The memory term, or nullptr.
  const PatternTerm* memory() const;

  bool operator==(const Pattern&) const = default;

 private:
  std::vector<PatternTerm> terms_;
};

}  // namespace earshot
