// Mean and variance normalisation of features.
//
//   CmvnAccumulator accumulator(80);
//   for (...) accumulator.Accept(features);       // (T, 80) of each training utterance
//   GlobalCmvn cmvn = accumulator.Finish();       // stored with the model
//   cmvn.Apply(features);                         // in place
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace earshot {

// x[c] <- (x[c] - mean[c]) * inverse_std[c]. Thread-safe once made.
struct GlobalCmvn {
  // (C) each. Empty: Apply does nothing.
  std::vector<float> mean;
  std::vector<float> inverse_std;

  // features: (T, C), in place.
  void Apply(std::span<float> features) const;
};

// Sums over frames, in double. One for each thread, added up at the end. Not thread-safe.
class CmvnAccumulator {
 public:
  explicit CmvnAccumulator(int dim);

  // features: (T, C).
  void Accept(std::span<const float> features);
  CmvnAccumulator& operator+=(const CmvnAccumulator& other);
  int64_t num_frames() const { return num_frames_; }
  // Throws Error when there was no frame. The variance is floored at 1e-10, for features that never change.
  GlobalCmvn Finish() const;

 private:
  int64_t num_frames_ = 0;
  std::vector<double> sum_;
  std::vector<double> sum_of_squares_;
};

// Each feature of one utterance to mean 0 and standard deviation 1 over its frames, as NeMo does it: the variance
// is divided by T - 1, and 1e-5 is added to the standard deviation. features: (T, C), in place.
void NormalizePerFeature(std::span<float> features, int dim);

}  // namespace earshot
