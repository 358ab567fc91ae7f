#include "src/data/audio_cache.h"

#include <algorithm>
#include <cmath>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"

namespace earshot {
namespace {

// Manifests round durations; a file that ends within this of the stated end is read to its own end.
constexpr double kRoundingSeconds = 0.05;
constexpr float kScale = 32768;

std::vector<int16_t> ToInt16(const std::vector<float>& samples) {
  std::vector<int16_t> rounded(samples.size());
  std::transform(samples.begin(), samples.end(), rounded.begin(),
                 [](float x) { return static_cast<int16_t>(std::clamp(std::round(x * kScale), -kScale, kScale - 1)); });
  return rounded;
}

std::vector<float> ToFloat(const std::vector<int16_t>& samples) {
  std::vector<float> scaled(samples.size());
  std::transform(samples.begin(), samples.end(), scaled.begin(),
                 [](int16_t x) { return static_cast<float>(x) / kScale; });
  return scaled;
}

}  // namespace

AudioCache::AudioCache(int sample_rate, double cache_mb)
    : sample_rate_(sample_rate), capacity_(static_cast<int64_t>(cache_mb * (1 << 20))) {}

std::vector<float> AudioCache::Decode(const Utterance& utterance) const {
  const double duration_s = utterance.duration_s;
  AudioOptions options{.sample_rate = sample_rate_, .offset_s = utterance.offset_s};
  if (duration_s >= 0) options.duration_s = duration_s + kRoundingSeconds;
  std::vector<float> samples = ReadAudio(utterance.audio_path, options);
  if (samples.empty()) Throw("{}: no samples in it", utterance.audio_path);
  if (duration_s < 0) return samples;
  const double found_s = static_cast<double>(samples.size()) / sample_rate_;
  if (found_s < duration_s - std::max(0.1, 0.05 * duration_s))
    Throw("{}: {:.2f} s of audio, the manifest says {:.2f} s; is the file truncated?", utterance.audio_path, found_s,
          duration_s);
  const auto most = static_cast<size_t>(std::lround(options.duration_s * sample_rate_));
  if (samples.size() >= most) samples.resize(static_cast<size_t>(std::lround(duration_s * sample_rate_)));
  return samples;
}

std::vector<float> AudioCache::Read(const Utterance& utterance) {
  if (capacity_ == 0) return Decode(utterance);
  const std::string key = fmt::format("{}\n{}\n{}", utterance.audio_path, utterance.offset_s, utterance.duration_s);
  std::shared_ptr<const std::vector<int16_t>> samples;
  {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(key);
    if (found != kept_.end()) samples = found->second;
  }
  if (samples == nullptr) {
    samples = std::make_shared<const std::vector<int16_t>>(ToInt16(Decode(utterance)));
    const auto bytes = static_cast<int64_t>(samples->size() * sizeof(int16_t) + key.size());
    const std::lock_guard lock(mutex_);
    if (used_ + bytes <= capacity_ && kept_.emplace(key, samples).second) used_ += bytes;
  }
  return ToFloat(*samples);
}

}  // namespace earshot
