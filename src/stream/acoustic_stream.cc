#include "src/stream/acoustic_stream.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "src/base/error.h"

namespace earshot {
namespace {

using torch::Tensor;

// (t, C) as a batch of one, (1, t, C), on the model's device; undefined where t is 0.
Tensor ToBatch(const AsrModel& model, std::span<const float> features) {
  if (features.empty()) return {};
  const int64_t dim = model.extractor()->dim();
  const auto frames = static_cast<int64_t>(features.size()) / dim;
  // The tensor owns its values: a state may keep views of them.
  return at::from_blob(const_cast<float*>(features.data()), {1, frames, dim}, at::kFloat).clone().to(model.device());
}

// Encoder frames begin ... end - 1 of a batch of one.
AcousticFrames Cut(const CtcOutput& output, int64_t begin, int64_t end) {
  AcousticFrames frames;
  frames.log_probs = output.log_probs[0].slice(0, begin, end).to(at::kCPU, at::kFloat);
  if (output.gate.defined()) frames.gate = output.gate[0].slice(0, begin, end).to(at::kCPU, at::kFloat);
  return frames;
}

class StatefulStream : public AcousticStream {
 public:
  StatefulStream(std::shared_ptr<const AsrModel> model, const Reach* reach)
      : model_(std::move(model)), state_(model_->network().encoder().StartStream(reach)) {}

  AcousticFrames Accept(std::span<const float> features, bool final) override {
    if (features.empty() && !(final && started_)) return {};
    const c10::InferenceMode inference;
    started_ = true;
    const CtcOutput output = model_->network().Stream(ToBatch(*model_, features), final, state_);
    return Cut(output, 0, output.log_probs.size(1));
  }

 private:
  std::shared_ptr<const AsrModel> model_;
  EncoderState state_;
  bool started_ = false;
};

class WindowedStream : public AcousticStream {
 public:
  WindowedStream(std::shared_ptr<const AsrModel> model, const WindowOptions& options) : model_(std::move(model)) {
    options.Validate();
    dim_ = model_->extractor()->dim();
    factor_ = model_->config().encoder.subsampling.factor;
    // In whole encoder frames, so that every window subsamples on the grid of the recording.
    const double frame_s = model_->encoder_frame_s();
    dropped_ = std::max<int64_t>(1, std::llround(options.overlap_s / 2 / frame_s));
    window_ = std::max(4 * dropped_, static_cast<int64_t>(std::llround(options.window_s / frame_s)));
  }

  AcousticFrames Accept(std::span<const float> features, bool final) override {
    const c10::InferenceMode inference;
    waiting_.insert(waiting_.end(), features.begin(), features.end());
    std::vector<AcousticFrames> parts;
    while (Waiting() > window_ * factor_) {
      parts.push_back(Recognize(window_ * factor_, window_ - dropped_));
      // The next window begins `dropped_` encoder frames before the first that it gives.
      const int64_t hop = (window_ - 2 * dropped_) * factor_ * dim_;
      waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(hop));
      given_ = dropped_;
    }
    if (final && Waiting() > 0) {
      parts.push_back(Recognize(Waiting(), model_->network().encoder().OutputFrames(Waiting())));
      waiting_.clear();
    }
    return Join(parts);
  }

 private:
  // Frames that wait for their window to be full.
  int64_t Waiting() const { return static_cast<int64_t>(waiting_.size()) / dim_; }

  // The first frames of those that wait; of what they give, the encoder frames given_ ... end - 1.
  AcousticFrames Recognize(int64_t frames, int64_t end) {
    const auto values = static_cast<size_t>(frames * dim_);
    const Tensor batch = ToBatch(*model_, std::span<const float>(waiting_).first(values));  // (1, T, C)
    const CtcOutput output = model_->network().forward(batch, at::full({1}, frames, at::kLong));
    return Cut(output, given_, end);
  }

  static AcousticFrames Join(const std::vector<AcousticFrames>& parts) {
    if (parts.empty()) return {};
    std::vector<Tensor> log_probs, gates;
    for (const AcousticFrames& part : parts) {
      log_probs.push_back(part.log_probs);
      if (part.gate.defined()) gates.push_back(part.gate);
    }
    return {.log_probs = at::cat(log_probs), .gate = gates.empty() ? Tensor() : at::cat(gates)};
  }

  std::shared_ptr<const AsrModel> model_;
  int64_t dim_ = 0, factor_ = 0;
  int64_t window_ = 0, dropped_ = 0;  // in encoder frames
  std::vector<float> waiting_;        // (t, C)
  int64_t given_ = 0;                 // encoder frames at its begin that an earlier window gave
};

}  // namespace

void WindowOptions::Visit(OptionVisitor& v) {
  v.Field("window_s", window_s);
  v.Field("overlap_s", overlap_s);
}

void WindowOptions::Validate() const {
  if (!(overlap_s > 0)) Throw("window.overlap_s is {}, expected more than 0", overlap_s);
  if (!(window_s >= 2 * overlap_s && window_s <= 3600))
    Throw("window.window_s is {}, expected at least twice overlap_s ({}) and at most 3600", window_s, overlap_s);
}

std::unique_ptr<AcousticStream> MakeStatefulStream(std::shared_ptr<const AsrModel> model, const Reach* reach) {
  return std::make_unique<StatefulStream>(std::move(model), reach);
}

std::unique_ptr<AcousticStream> MakeWindowedStream(std::shared_ptr<const AsrModel> model,
                                                   const WindowOptions& options) {
  return std::make_unique<WindowedStream>(std::move(model), options);
}

std::unique_ptr<AcousticStream> MakeAcousticStream(std::shared_ptr<const AsrModel> model, const WindowOptions& options,
                                                   const Reach* reach) {
  const bool bounded = reach ? reach->pattern.Bounded() : model->network().encoder().pattern().Bounded();
  return bounded ? MakeStatefulStream(std::move(model), reach) : MakeWindowedStream(std::move(model), options);
}

}  // namespace earshot
