// Few heights for the matrices of streams that are computed together.
//
//   const RoundedRows rounded(steps.size() > 1);   // in this thread, until the end of the block
//
// Each height of a matrix costs oneDNN a program that it writes and keeps, some 600 KB with what libtorch keeps beside
// it, and a batch of streams has a new height at every step. While one lives, packed linear layers (PackedMatrix)
// compute a multiple of 16 rows, or of an eighth of them where there are more: a sixteenth more on average, for memory
// that stays.
#pragma once

#include <cstdint>

namespace earshot {

class RoundedRows {
 public:
  explicit RoundedRows(bool wanted) : before_(wanted_) { wanted_ = wanted_ || wanted; }
  ~RoundedRows() { wanted_ = before_; }
  RoundedRows(const RoundedRows&) = delete;
  RoundedRows& operator=(const RoundedRows&) = delete;

  // rows, or the rounded number of them.
  static int64_t Of(int64_t rows) {
    if (!wanted_) return rows;
    int64_t step = 16;
    while (16 * step <= rows) step *= 2;
    return (rows + step - 1) / step * step;
  }

 private:
  static inline thread_local bool wanted_ = false;
  bool before_;
};

}  // namespace earshot
