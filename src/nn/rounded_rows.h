// Few heights for matrices whose height is a new one at every step: streams that are computed together, frames that a
// gate has left over.
//
//   const RoundedRows rounded(8);   // in this thread, until the end of the block
//
// Each height of a matrix costs oneDNN a program that it writes and keeps, some 600 KB with what libtorch keeps beside
// it. While one lives, packed linear layers (PackedMatrix) compute a multiple of 16 rows, or, where there are more,
// some `heights` to twice as many heights between a number of rows and its double; and `least` rows where there are
// less.
//
// And a row is the same whatever rows it is computed with: the programs of few rows sum long rows in other blocks than
// those of many, so in bfloat16 these are computed as many, 256 at the least.
#pragma once

#include <algorithm>
#include <cstdint>

namespace earshot {

class RoundedRows {
 public:
  // 0: as it was. kEvery: every multiple of 16.
  static constexpr int64_t kEvery = int64_t{1} << 40;
  explicit RoundedRows(int64_t heights, int64_t least = 0) : before_(now_) {
    if (heights > 0) now_ = {heights, least};
  }
  ~RoundedRows() { now_ = before_; }
  RoundedRows(const RoundedRows&) = delete;
  RoundedRows& operator=(const RoundedRows&) = delete;

  // rows, or the rounded number of them. width: of the rows that are summed, where that is rounded.
  static int64_t Of(int64_t rows, int64_t width = 0) {
    if (now_.heights == 0 || rows == 0) return rows;
    rows = std::max({rows, now_.least, width > kSummedAtOnce ? kMany : 0});
    int64_t step = 16;
    while (rows / (2 * now_.heights) >= step) step *= 2;
    return (rows + step - 1) / step * step;
  }

 private:
  // Measured with the oneDNN of torch 2.11: rows up to this are summed in one way, and any from this number of rows on.
  static constexpr int64_t kSummedAtOnce = 512, kMany = 256;
  struct Rule {
    int64_t heights, least;
  };
  static inline thread_local Rule now_{};
  Rule before_;
};

}  // namespace earshot
