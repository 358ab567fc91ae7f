#include "src/frontend/online_features.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"

namespace earshot {

OnlineFeatures::OnlineFeatures(std::shared_ptr<const FeatureExtractor> extractor) : extractor_(std::move(extractor)) {
  EARSHOT_CHECK(extractor_ != nullptr, "OnlineFeatures without an extractor");
}

void OnlineFeatures::AcceptWaveform(std::span<const float> samples) {
  EARSHOT_CHECK(!finished_, "AcceptWaveform after InputFinished");
  samples_.insert(samples_.end(), samples.begin(), samples.end());
  num_samples_ += static_cast<int64_t>(samples.size());
  ComputeReady();
}

void OnlineFeatures::InputFinished() {
  if (finished_) return;
  finished_ = true;
  ComputeReady();
  samples_.clear();
  samples_.shrink_to_fit();
}

void OnlineFeatures::ComputeReady() {
  const FrameLayout& layout = extractor_->layout();
  const int64_t ready = finished_ ? layout.NumFrames(num_samples_) : layout.NumFramesReady(num_samples_);
  if (ready <= num_ready_) return;
  const auto dim = static_cast<size_t>(extractor_->dim());
  const size_t old_size = frames_.size();
  frames_.resize(old_size + static_cast<size_t>(ready - num_ready_) * dim);
  extractor_->ComputeFrames(
      {.samples = samples_, .first_sample = first_sample_, .num_samples = finished_ ? num_samples_ : -1}, num_ready_,
      std::span(frames_).subspan(old_size), 1.0f);
  num_ready_ = ready;
  // A shift longer than the frame can ask for samples that have not come yet.
  const int64_t needed = std::min(layout.FirstSampleNeeded(ready), num_samples_);
  samples_.erase(samples_.begin(), samples_.begin() + (needed - first_sample_));
  first_sample_ = needed;
}

std::span<const float> OnlineFeatures::GetFrame(int64_t index) const { return GetFrames(index, index + 1); }

std::span<const float> OnlineFeatures::GetFrames(int64_t begin, int64_t end) const {
  EARSHOT_CHECK(begin >= first_frame_ && begin <= end && end <= num_ready_, "frames {} to {}, held are {} to {}", begin,
                end, first_frame_, num_ready_);
  const auto dim = static_cast<size_t>(extractor_->dim());
  return std::span(frames_).subspan(static_cast<size_t>(begin - first_frame_) * dim,
                                    static_cast<size_t>(end - begin) * dim);
}

void OnlineFeatures::DiscardBefore(int64_t index) {
  EARSHOT_CHECK(index <= num_ready_, "DiscardBefore({}), ready are {}", index, num_ready_);
  if (index <= first_frame_) return;
  frames_.erase(frames_.begin(), frames_.begin() + (index - first_frame_) * extractor_->dim());
  first_frame_ = index;
}

}  // namespace earshot
