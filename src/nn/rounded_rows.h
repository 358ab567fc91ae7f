// Few heights for matrices whose height is a new one at every step: streams that are computed together, frames that a
// gate has left over.
//
//   const RoundedRows rounded(8);   // in this thread, until the end of the block
//
// Each height of a matrix costs oneDNN a program that it writes and keeps, some 600 KB with what libtorch keeps beside
// it. While one lives, packed linear layers (PackedMatrix) compute a multiple of 16 rows, or, where there are more,
// some `heights` to twice as many heights between a number of rows and its double.
#pragma once

#include <cstdint>

namespace earshot {

class RoundedRows {
 public:
  // 0: as it was.
  explicit RoundedRows(int64_t heights) : before_(heights_) { heights_ = heights > 0 ? heights : heights_; }
  ~RoundedRows() { heights_ = before_; }
  RoundedRows(const RoundedRows&) = delete;
  RoundedRows& operator=(const RoundedRows&) = delete;

  // rows, or the rounded number of them.
  static int64_t Of(int64_t rows) {
    if (heights_ == 0) return rows;
    int64_t step = 16;
    while (2 * heights_ * step <= rows) step *= 2;
    return (rows + step - 1) / step * step;
  }

 private:
  static inline thread_local int64_t heights_ = 0;
  int64_t before_;
};

}  // namespace earshot
