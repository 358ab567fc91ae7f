#include "src/base/random.h"

#include <cmath>
#include <numbers>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr uint64_t kMultiplier = 6364136223846793005ULL;
constexpr uint64_t kIncrement = 1442695040888963407ULL;

// The finaliser of SplitMix64 (Steele et al. 2014): spreads near seeds far apart.
uint64_t Mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace

Random::Random(uint64_t seed) : state_(Mix(seed) + kIncrement) { Next(); }

Random Random::For(std::initializer_list<uint64_t> key) {
  uint64_t seed = 0;
  for (const uint64_t part : key) seed = Mix(seed ^ Mix(part));
  return Random(seed);
}

uint32_t Random::Next() {
  const uint64_t old = state_;
  state_ = old * kMultiplier + kIncrement;
  const auto shifted = static_cast<uint32_t>(((old >> 18U) ^ old) >> 27U);
  const auto rotation = static_cast<uint32_t>(old >> 59U);
  return (shifted >> rotation) | (shifted << ((32U - rotation) & 31U));
}

double Random::Uniform() {
  const uint64_t bits = (static_cast<uint64_t>(Next()) << 32U) | Next();
  return static_cast<double>(bits >> 11U) * 0x1.0p-53;
}

int64_t Random::Index(int64_t n) {
  EARSHOT_CHECK(n > 0, "Index({})", n);
  return static_cast<int64_t>(Uniform() * static_cast<double>(n));
}

double Random::Normal() {
  // Box and Muller; one of the pair is enough here.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * Uniform());
}

}  // namespace earshot
