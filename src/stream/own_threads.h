// How many threads torch takes for what the calling thread computes, and that one alone.
//
//   SetOwnThreads(1);   // first thing in a thread that shares the cores with others like it
//
// at::set_num_threads would also be for every thread that computes its first tensor later.
#pragma once

#include <ATen/Parallel.h>
#include <omp.h>

namespace earshot {

inline void SetOwnThreads(int threads) {
  at::get_num_threads();  // in a new thread torch sets its number here, and not again
  omp_set_num_threads(threads);
}

}  // namespace earshot
