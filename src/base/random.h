// A small seeded generator (PCG-XSH-RR 64/32, O'Neill 2014) whose state is two words: cheap to
// make for every utterance, and saved with a checkpoint.
//
//   Random random = Random::For({seed, epoch, index});   // the same everywhere, whatever thread asks
//   double snr_db = random.Uniform(5, 20);
//
// The standard distributions differ between standard libraries; these do not. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace earshot {

class Random {
 public:
  explicit Random(uint64_t seed = 0);
  // A generator for one place in a run: every number of the key is mixed in.
  static Random For(std::initializer_list<uint64_t> key);

  uint32_t Next();
  // In [0, 1).
  double Uniform();
  // In [low, high).
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  // In {0, ..., n - 1}; n must be positive.
  int64_t Index(int64_t n);
  // Mean 0, variance 1.
  double Normal();
  bool Chance(double probability) { return Uniform() < probability; }

  template <class T>
  void Shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[static_cast<size_t>(Index(static_cast<int64_t>(i)))]);
  }

  uint64_t state() const { return state_; }
  void set_state(uint64_t state) { state_ = state; }

 private:
  uint64_t state_;
};

}  // namespace earshot
