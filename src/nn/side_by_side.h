// Streams side by side, each on one core: where a stream has too little work for several.
//
//   ForEachStream(steps, [&](size_t i) { outputs[i] = Compute(steps[i]); });
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <cstdint>
#include <vector>

namespace earshot {

// Calls f(i) once for each step: those of different streams at the same time, those of one stream (steps[i].state),
// which follow one another, in order. f sees the caller's modes of torch; what it throws the caller gets.
template <class Step, class F>
void ForEachStream(const std::vector<Step>& steps, F f) {
  std::vector<size_t> begins;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (i == 0 || steps[i].state != steps[i - 1].state) begins.push_back(i);
  }
  begins.push_back(steps.size());
  const at::ThreadLocalState modes;
  at::parallel_for(0, static_cast<int64_t>(begins.size()) - 1, 1, [&](int64_t first, int64_t last) {
    const at::ThreadLocalStateGuard guard(modes);
    for (size_t i = begins[static_cast<size_t>(first)]; i < begins[static_cast<size_t>(last)]; ++i) f(i);
  });
}

}  // namespace earshot
