#include "src/audio/audio_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/audio/audio_source.h"
#include "src/audio/resampler.h"
#include "src/base/error.h"
#include "src/base/log.h"

namespace earshot {
namespace {

// Frames decoded at a time at most: small enough to stay in the cache, large enough to hide the calls.
constexpr size_t kBlockFrames = 4096;

// 768 kHz for 300 years; what is asked for beyond is the end.
constexpr double kLastFrame = 9e15;

void Validate(const AudioOptions& options) {
  if (options.sample_rate < 0) Throw("sample_rate: {} Hz, expected 0 (the file's own) or more", options.sample_rate);
  if (!(options.offset_s >= 0) || !std::isfinite(options.offset_s))
    Throw("offset_s: {} s, expected 0 or more", options.offset_s);
  if (!(options.duration_s >= 0) && options.duration_s != -1)
    Throw("duration_s: {} s, expected 0 or more, or -1 for all to the end", options.duration_s);
}

// interleaved: (frames, channels) -> mono: (frames), the mean.
void MixDown(std::span<const float> interleaved, size_t channels, std::span<float> mono) {
  const float scale = 1.0f / static_cast<float>(channels);
  for (size_t i = 0; i < mono.size(); ++i) {
    float sum = 0;
    for (size_t c = 0; c < channels; ++c) sum += interleaved[i * channels + c];
    mono[i] = channels == 1 ? sum : sum * scale;
  }
}

}  // namespace

std::unique_ptr<AudioReader> AudioReader::Open(const std::string& path, const AudioOptions& options) {
  Validate(options);
  return std::unique_ptr<AudioReader>(new AudioReader(path, options));
}

AudioReader::AudioReader(const std::string& path, const AudioOptions& options)
    : name_(AudioName(path)), options_(options), source_(OpenAudioSource(path)) {
  const int rate = source_->sample_rate();
  output_rate_ = options.sample_rate == 0 ? rate : options.sample_rate;
  if (output_rate_ != rate) resampler_ = std::make_unique<Resampler>(rate, output_rate_);
  frames_.resize(kBlockFrames * static_cast<size_t>(source_->channels()));
  mono_.resize(kBlockFrames);

  // Both ends are rounded from their own time, so that neighbouring pieces share one border.
  const auto frame_at = [&](double time_s) { return static_cast<int64_t>(std::min(time_s * rate + 0.5, kLastFrame)); };
  end_ = options.duration_s < 0 ? std::numeric_limits<int64_t>::max() : frame_at(options.offset_s + options.duration_s);
  const int64_t begin = frame_at(options.offset_s);
  if (begin > 0) SkipTo(begin);
}

AudioReader::~AudioReader() = default;

double AudioReader::duration_s() const { return source_->duration_s(); }

void AudioReader::SkipTo(int64_t frame) {
  if (source_->Seek(frame)) {
    position_ = frame;
    return;
  }
  const size_t channels = static_cast<size_t>(source_->channels());
  while (position_ < frame) {
    const size_t block = static_cast<size_t>(std::min<int64_t>(kBlockFrames, frame - position_));
    const size_t n = source_->Read(std::span(frames_).first(block * channels));
    position_ += static_cast<int64_t>(n);
    if (n == 0)
      Throw("{}: offset {:.3f} s lies past the end, {:.3f} s; does the manifest belong to this file?", name_,
            options_.offset_s, static_cast<double>(position_) / source_->sample_rate());
  }
}

size_t AudioReader::Read(std::span<float> out) {
  size_t written = 0;
  while (written < out.size()) {
    if (ready_begin_ == ready_.size()) {
      if (finished_) break;
      Refill(out.size() - written);
      continue;
    }
    const size_t n = std::min(out.size() - written, ready_.size() - ready_begin_);
    std::copy_n(ready_.begin() + static_cast<std::ptrdiff_t>(ready_begin_), n,
                out.begin() + static_cast<std::ptrdiff_t>(written));
    ready_begin_ += n;
    written += n;
  }
  // What was decoded before the damage is handed out before the damage is reported.
  if (finished_ && written == 0 && !out.empty()) ReportDamage();
  return written;
}

// Decodes one block into ready_. wanted: samples at the output rate; no more than that is read ahead, so that a
// live stream is not waited for longer than the caller asked.
void AudioReader::Refill(size_t wanted) {
  ready_.clear();
  ready_begin_ = 0;
  const double ratio = static_cast<double>(source_->sample_rate()) / output_rate_;
  const size_t ask = static_cast<size_t>(
      std::clamp(std::ceil(static_cast<double>(wanted) * ratio), 1.0, static_cast<double>(kBlockFrames)));
  const size_t block = static_cast<size_t>(std::clamp<int64_t>(end_ - position_, 0, static_cast<int64_t>(ask)));
  const size_t channels = static_cast<size_t>(source_->channels());
  const size_t n = block == 0 ? 0 : source_->Read(std::span(frames_).first(block * channels));
  if (n == 0) {
    finished_ = true;
    if (resampler_) resampler_->Flush(ready_);
    return;
  }
  const std::span<float> mono = std::span(mono_).first(n);
  MixDown(std::span(frames_).first(n * channels), channels, mono);
  CheckFinite(mono);
  position_ += static_cast<int64_t>(n);
  if (resampler_)
    resampler_->Process(mono, ready_);
  else
    ready_.assign(mono.begin(), mono.end());
}

void AudioReader::CheckFinite(std::span<const float> mono) const {
  const auto bad = std::find_if(mono.begin(), mono.end(), [](float x) { return !std::isfinite(x); });
  if (bad == mono.end()) return;
  const int64_t frame = position_ + (bad - mono.begin());
  Throw("{}: sample {} (at {:.3f} s) is {}, expected finite numbers; mend or leave out this file", name_, frame,
        static_cast<double>(frame) / source_->sample_rate(), std::isnan(*bad) ? "NaN" : "infinite");
}

void AudioReader::ReportDamage() {
  // A piece that was read to its own end says nothing of what comes after it.
  if (reported_ || position_ >= end_) return;
  reported_ = true;
  const std::string damage = source_->Damage();
  if (damage.empty()) return;
  if (!options_.allow_damaged) Throw("{}: {}; mend it or copy it again", name_, damage);
  LogWarning("{}: {}; going on with what could be decoded", name_, damage);
}

std::vector<float> ReadAudio(const std::string& path, const AudioOptions& options) {
  const auto reader = AudioReader::Open(path, options);
  std::vector<float> samples;
  size_t size = 0;
  // Grown by half, so that the vector ends at most that much larger than the audio on its way there.
  for (size_t n = 1; n > 0; size += n) {
    samples.resize(std::max<size_t>(size + size / 2, size + (size_t{1} << 16)));
    n = reader->Read(std::span(samples).subspan(size));
  }
  samples.resize(size);
  return samples;
}

AudioInfo ProbeAudio(const std::string& path) {
  const auto source = OpenAudioSource(path);
  return {.sample_rate = source->sample_rate(),
          .channels = source->channels(),
          .duration_s = source->duration_s(),
          .format = source->format()};
}

}  // namespace earshot
