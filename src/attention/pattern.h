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
//   learned(block=B,blocks=N,reach=M,lookahead=A)
//                                            the frame's block of B and the N blocks that the model scores highest
//                                            for it, at most M blocks before it (-1: any) and A after it (-1: any);
//                                            see BlockSelector
//   hierarchical(chunk=C,left=L,lookahead=A,pool=P,levels=N,future=F)
//                                            as local near by; before that L summaries of P frames each, before
//                                            those L of P^2 frames, and so on for N levels, so that the reach is
//                                            about L P^N frames; the seams lie on whole cells of the coarser
//                                            level. future=true: the same again behind the lookahead
//   memory(slots=M,chunk=C,lag=G)            M vectors that carry the chunks of C frames older than the
//                                            frame's own chunk by more than G (no frame at all, see MemoryBank)
//
// A summary is called a cell: cell c of level l stands for the frames [c P^l, (c + 1) P^l).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace earshot {

enum class PatternKind { kFull, kLocal, kSliding, kStrided, kBlockwise, kLearned, kHierarchical, kMemory };

// Keys, queries or cells first..last, inclusive; first > last: none.
struct KeyRange {
  int64_t first = 0;
  int64_t last = -1;
  bool operator==(const KeyRange&) const = default;
};

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
  int64_t blocks = 4;
  int64_t pool = 4;
  int64_t levels = 3;
  bool future = false;

  bool operator==(const PatternTerm&) const = default;
  // Of learned selection: the frame's own block alone.
  bool MaySee(int64_t query, int64_t key) const;

  // The contiguous hull of the frames that a query may see. Both ends rise with the query.
  KeyRange Hull(int64_t query) const;

  // hierarchical: the cells of a level (1 to levels) that a query may see, before it and after it, counted from the
  // start of the stream; and the frames of a cell, P^level.
  KeyRange PastCells(int64_t query, int64_t level) const;
  KeyRange FutureCells(int64_t query, int64_t level) const;
  int64_t CellFrames(int64_t level) const;

  // learned: the blocks that a query of block b may select, its own left out by the caller.
  KeyRange Candidates(int64_t block) const;
};

class Pattern {
 public:
  Pattern() : terms_(1) {}
  // Throws Error with the term, what was found, and the nearest known name.
  static Pattern Parse(const std::string& text);
  std::string ToString() const;

  // May frame `query` see frame `key`? Both from 0; the end of the utterance is the caller's business. Cells, memory
  // and selected blocks are not asked for here.
  bool MaySee(int64_t query, int64_t key) const;

  // How many queries, counted from 0, are complete once the first `received` frames are known.
  int64_t ReadyQueries(int64_t received) const;
  // May key be forgotten when all queries before `next_query` are done? Everything before a key that may is as well,
  // but for anchors.
  bool Forgettable(int64_t key, int64_t next_query) const;
  // Whether state stays bounded in an endless stream; false for full, left=-1 and endless anchors.
  bool Bounded() const;
  // The frames of right context that one layer adds: 0 when strictly causal, -1 when unlimited.
  int64_t Lookahead() const;
  bool IsFull() const;

  const std::vector<PatternTerm>& terms() const { return terms_; }
  // The term of this kind, or nullptr; of memory, learned and hierarchical there is at most one.
  const PatternTerm* Find(PatternKind kind) const;
  const PatternTerm* memory() const { return Find(PatternKind::kMemory); }
  const PatternTerm* learned() const { return Find(PatternKind::kLearned); }
  const PatternTerm* hierarchical() const { return Find(PatternKind::kHierarchical); }

  bool operator==(const Pattern&) const = default;

 private:
  std::vector<PatternTerm> terms_;
};

}  // namespace earshot
