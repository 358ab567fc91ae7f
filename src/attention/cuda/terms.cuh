// What a term of a pattern shows to whom.
#pragma once

#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/cuda/primitives.cuh"

namespace earshot::cuda {

struct Run {
  int32_t first, end;
};

// Positions [first, end) that queries [query, query + count) see by the term, those that are no multiple of step
// included; first is one.
__host__ __device__ __forceinline__ Run PositionsOf(const CudaTerm& term, int32_t query, int32_t count,
                                                    int32_t length) {
  const int64_t from = static_cast<int64_t>(query / term.chunk * term.chunk) + term.from;
  const int64_t last = static_cast<int64_t>((query + count - 1) / term.chunk * term.chunk) + term.to;
  const int64_t first = (Max<int64_t>(from, 0) + term.step - 1) / term.step * term.step;
  return {static_cast<int32_t>(Min<int64_t>(first, length)), static_cast<int32_t>(Min<int64_t>(last + 1, length))};
}
__host__ __device__ __forceinline__ int32_t CandidatesOf(const CudaTerm& term, int32_t query, int32_t count,
                                                         int32_t length) {
  const Run run = PositionsOf(term, query, count, length);
  return run.end > run.first ? (run.end - run.first - 1) / term.step + 1 : 0;
}

// Queries of the tile that see a position by the term: chunk_start(i) in [position - to, position - from]. Once for
// each row that is listed and each term, so divisions are left out where the divisor is 1.
__host__ __device__ __forceinline__ Run QueriesOf(const CudaTerm& term, int32_t position, int32_t query,
                                                  int32_t count) {
  if (term.step > 1 && position % term.step != 0) return {0, 0};
  const int32_t limit = query + count, chunk = term.chunk;
  int32_t low = Min(position - term.to, limit), high = Min(position - term.from, limit);
  if (high < 0) return {0, 0};
  low = Max(low, 0);
  if (chunk > 1) {
    low = (low + chunk - 1) / chunk * chunk;
    high -= high % chunk;
  }
  const Run run = {Max(low - query, 0), Min(high - query + chunk, count)};
  return run.first < run.end ? run : Run{0, 0};
}

}  // namespace earshot::cuda
