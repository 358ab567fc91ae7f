#include "src/frontend/window.h"

#include <cmath>
#include <numbers>

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

using WeightFunction = double (*)(double phase);  // phase: 0 at the first sample, 2 pi at the last

struct NamedWindow {
  const char* name;
  WeightFunction weight;
};

constexpr NamedWindow kWindows[] = {
    // Hann-like, but never quite 0 at its flanks (D. Povey).
    {"povey", [](double phase) { return std::pow(0.5 - 0.5 * std::cos(phase), 0.85); }},
    {"hann", [](double phase) { return 0.5 - 0.5 * std::cos(phase); }},
    {"hamming", [](double phase) { return 0.54 - 0.46 * std::cos(phase); }},
    {"blackman", [](double phase) { return 0.42 - 0.5 * std::cos(phase) + 0.08 * std::cos(2 * phase); }},
    {"sine", [](double phase) { return std::sin(0.5 * phase); }},
    {"rectangular", [](double) { return 1.0; }},
};

}  // namespace

std::vector<float> WindowFunction(const std::string& name, int length) {
  EARSHOT_CHECK(length >= 2, "a window of {} samples", length);
  std::vector<std::string> names;
  for (const NamedWindow& window : kWindows) {
    names.emplace_back(window.name);
    if (name != window.name) continue;
    std::vector<float> weights(static_cast<size_t>(length));
    for (int n = 0; n < length; ++n)
      weights[static_cast<size_t>(n)] = static_cast<float>(window.weight(2 * std::numbers::pi * n / (length - 1)));
    return weights;
  }
  Throw("fbank.window: '{}' is unknown{}", name, Suggestion(name, names));
}

}  // namespace earshot
