#include "tools/cli/capture.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <utility>
#include <vector>

#include "src/base/error.h"

namespace earshot {
namespace {

// How soon Stop is noticed.
constexpr int kWaitMs = 50;
// How much of a second is passed on at once, where so much waits.
constexpr int kBlocksPerSecond = 10;

}  // namespace

Capture::Capture(LiveSource& source, LiveStream& stream, const CaptureOptions& options, CaptureCallbacks callbacks)
    : source_(source), stream_(stream), options_(options), callbacks_(std::move(callbacks)) {
  if (!options_.save.empty()) recorder_ = std::make_unique<WavRecorder>(options_.save, source_.sample_rate());
  thread_ = std::thread([this] { Run(); });
}

Capture::~Capture() {
  Stop();
  Join();
}

void Capture::Join() {
  if (thread_.joinable()) thread_.join();
}

void Capture::Run() {
  try {
    Hear();
    if (recorder_) recorder_->Finish();
  } catch (const std::exception& e) {
    error_ = e.what();
  }
  stream_.InputFinished();
}

void Capture::Hear() {
  std::vector<float> block(static_cast<size_t>(std::max(1, source_.sample_rate() / kBlocksPerSecond)));
  const int64_t end = options_.duration_s > 0 ? std::llround(options_.duration_s * source_.sample_rate()) : INT64_MAX;
  bool stopped = false;
  while (!source_.ended() && samples_ < end) {
    if (stop_ && !stopped) {
      source_.Stop();
      stopped = true;
    }
    if (!stopped && options_.max_queued_s > 0 && stream_.queued_s() > options_.max_queued_s) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kWaitMs));
      continue;
    }
    const size_t room = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(block.size()), end - samples_));
    if (const size_t heard = source_.Read(std::span(block).first(room), kWaitMs); heard > 0)
      Take(std::span(block).first(heard));
  }
  if (!stopped) source_.Stop();
}

void Capture::Take(std::span<const float> samples) {
  stream_.AcceptWaveform(samples);
  Save(samples);
  for (const float sample : samples) state_.peak = std::max(state_.peak, std::abs(sample));
  samples_ += static_cast<int64_t>(samples.size());
  const double rate = source_.sample_rate();
  const LostAudio lost = source_.lost();
  state_.captured_s = static_cast<double>(samples_) / rate;
  state_.gaps = lost.times;
  state_.lost_s = static_cast<double>(lost.frames) / rate;
  if (samples_ - told_samples_ < source_.sample_rate() / kBlocksPerSecond) return;
  told_samples_ = samples_;
  if (callbacks_.state) callbacks_.state(state_);
  state_.peak = 0;
}

// A full disk costs the file, not the words.
void Capture::Save(std::span<const float> samples) {
  if (!recorder_) return;
  try {
    recorder_->Append(samples);
  } catch (const Error& e) {
    error_ = e.what();
    if (callbacks_.warning) callbacks_.warning(error_);
    recorder_.reset();
  }
}

}  // namespace earshot
