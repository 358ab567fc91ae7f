#include "src/frontend/cmvn.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace earshot {
namespace {

size_t CheckedFrames(size_t num_values, size_t dim) {
  EARSHOT_CHECK(dim > 0 && num_values % dim == 0, "{} values, not a multiple of {} features", num_values, dim);
  return num_values / dim;
}

}  // namespace

void GlobalCmvn::Apply(std::span<float> features) const {
  const size_t dim = mean.size();
  EARSHOT_CHECK(inverse_std.size() == dim, "{} means, {} deviations", dim, inverse_std.size());
  if (dim == 0) return;
  const size_t num_frames = CheckedFrames(features.size(), dim);
  for (size_t t = 0; t < num_frames; ++t) {
    float* frame = features.data() + t * dim;
    for (size_t c = 0; c < dim; ++c) frame[c] = (frame[c] - mean[c]) * inverse_std[c];
  }
}

CmvnAccumulator::CmvnAccumulator(int dim)
    : sum_(static_cast<size_t>(dim), 0.0), sum_of_squares_(static_cast<size_t>(dim), 0.0) {}

void CmvnAccumulator::Accept(std::span<const float> features) {
  const size_t dim = sum_.size();
  const size_t num_frames = CheckedFrames(features.size(), dim);
  for (size_t t = 0; t < num_frames; ++t) {
    for (size_t c = 0; c < dim; ++c) {
      const double x = features[t * dim + c];
      sum_[c] += x;
      sum_of_squares_[c] += x * x;
    }
  }
  num_frames_ += static_cast<int64_t>(num_frames);
}

CmvnAccumulator& CmvnAccumulator::operator+=(const CmvnAccumulator& other) {
  EARSHOT_CHECK(sum_.size() == other.sum_.size(), "{} features and {}", sum_.size(), other.sum_.size());
  num_frames_ += other.num_frames_;
  for (size_t c = 0; c < sum_.size(); ++c) {
    sum_[c] += other.sum_[c];
    sum_of_squares_[c] += other.sum_of_squares_[c];
  }
  return *this;
}

GlobalCmvn CmvnAccumulator::Finish() const {
  if (num_frames_ == 0) Throw("no frame to take the mean and variance of features from; is the training set empty?");
  GlobalCmvn cmvn;
  const auto count = static_cast<double>(num_frames_);
  for (size_t c = 0; c < sum_.size(); ++c) {
    const double mean = sum_[c] / count;
    const double variance = std::max(sum_of_squares_[c] / count - mean * mean, 1e-10);
    cmvn.mean.push_back(static_cast<float>(mean));
    cmvn.inverse_std.push_back(static_cast<float>(1.0 / std::sqrt(variance)));
  }
  return cmvn;
}

void NormalizePerFeature(std::span<float> features, int dim) {
  const auto width = static_cast<size_t>(dim);
  const size_t num_frames = CheckedFrames(features.size(), width);
  for (size_t c = 0; c < width && num_frames > 0; ++c) {
    double mean = 0;
    for (size_t t = 0; t < num_frames; ++t) mean += features[t * width + c];
    mean /= static_cast<double>(num_frames);
    double squares = 0;
    for (size_t t = 0; t < num_frames; ++t) {
      const double difference = features[t * width + c] - mean;
      squares += difference * difference;
    }
    const double deviation = num_frames > 1 ? std::sqrt(squares / static_cast<double>(num_frames - 1)) : 0;
    const double scale = 1.0 / (deviation + 1e-5);
    for (size_t t = 0; t < num_frames; ++t)
      features[t * width + c] = static_cast<float>((features[t * width + c] - mean) * scale);
  }
}

}  // namespace earshot
