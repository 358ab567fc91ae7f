// Independent work side by side, each on one core: where one has too little in it for several.
//
//   SideBySide(groups, [&](int64_t g) { outputs[g] = Compute(g); });
//   ForEachStream(steps, [&](size_t i) { outputs[i] = Compute(steps[i]); });
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <cstdint>
#include <vector>

namespace earshot {

// Calls f(i) once for each i below count. f sees the caller's modes of torch; what it throws the caller gets. Within
// one of these, another one, like all that torch shares out, stays on its core.
template <class F>
void SideBySide(int64_t count, F f) {
  const at::ThreadLocalState modes;
  at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    const at::ThreadLocalStateGuard guard(modes);
    for (int64_t i = first; i < last; ++i) f(i);
  });
}

// Calls f(i) once for each step: those of different streams at the same time, those of one stream (steps[i].state),
// which follow one another, in order.
template <class Step, class F>
void ForEachStream(const std::vector<Step>& steps, F f) {
  std::vector<size_t> begins;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (i == 0 || steps[i].state != steps[i - 1].state) begins.push_back(i);
  }
  begins.push_back(steps.size());
  SideBySide(static_cast<int64_t>(begins.size()) - 1, [&](int64_t stream) {
    for (size_t i = begins[static_cast<size_t>(stream)]; i < begins[static_cast<size_t>(stream) + 1]; ++i) f(i);
  });
}

}  // namespace earshot
