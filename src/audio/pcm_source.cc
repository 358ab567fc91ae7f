#include "src/audio/pcm_source.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "src/audio/sndfile_source.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

constexpr int kMinRate = 1000, kMaxRate = 768000, kMaxChannels = 256;
// A pipe's size, so that a read takes all that waits.
constexpr size_t kReadBytes = 1 << 16;
// Chunks before the audio (LIST, fact, bext) take some hundred bytes; more is no header.
constexpr size_t kMaxHeaderBytes = 1 << 20;

// WAVE_FORMAT_ tags.
constexpr int kTagPcm = 1, kTagFloat = 3, kTagExtensible = 0xFFFE;

int SampleBytes(PcmFormat format) {
  switch (format) {
    case PcmFormat::kU8: return 1;
    case PcmFormat::kS16: return 2;
    case PcmFormat::kS24: return 3;
    default: return 4;
  }
}

const char* FormatName(PcmFormat format) {
  switch (format) {
    case PcmFormat::kU8: return "u8";
    case PcmFormat::kS16: return "s16le";
    case PcmFormat::kS24: return "s24le";
    case PcmFormat::kS32: return "s32le";
    default: return "f32le";
  }
}

uint32_t LittleEndian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= uint32_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  return value;
}

// One sample, in [-1, 1]; what is no number is 0.
float Sample(std::string_view bytes, PcmFormat format) {
  const uint32_t raw = LittleEndian(bytes);
  switch (format) {
    case PcmFormat::kU8: return (static_cast<float>(raw) - 128) / 128;
    case PcmFormat::kF32: {
      const float value = std::bit_cast<float>(raw);
      return std::isfinite(value) ? value : 0.0f;
    }
    default: {
      // To the top of 32 bits, where its sign is theirs.
      const auto top = static_cast<int32_t>(raw << (32 - 8 * SampleBytes(format)));
      return static_cast<float>(top / 2147483648.0);
    }
  }
}

// What a stream is that is certainly not PCM; empty: it may be.
std::string_view OtherContainer(std::string_view head) {
  for (const auto& [magic, what] : {std::pair<std::string_view, std::string_view>{"fLaC", "FLAC"},
                                    {"OggS", "Ogg"},
                                    {"ID3", "MP3"},
                                    {"\x1A\x45\xDF\xA3", "Matroska or WebM"}}) {
    if (head.starts_with(magic)) return what;
  }
  return {};
}

}  // namespace

PcmFormat ParsePcmFormat(const std::string& name) {
  if (name == "s16le") return PcmFormat::kS16;
  if (name == "f32le") return PcmFormat::kF32;
  Throw("sample format '{}' is not known{}", name, Suggestion(name, {"s16le", "f32le"}));
}

PcmSource::PcmSource(int fd, const PcmOptions& options, std::string name)
    : fd_(fd), options_(options), name_(std::move(name)) {
  if (options_.sample_rate < kMinRate || options_.sample_rate > kMaxRate)
    Throw("{}: sample rate {} Hz, expected {} to {}", name_, options_.sample_rate, kMinRate, kMaxRate);
  if (options_.channels < 1 || options_.channels > kMaxChannels)
    Throw("{}: {} channels, expected 1 to {}", name_, options_.channels, kMaxChannels);
}

size_t PcmSource::FrameBytes() const {
  return static_cast<size_t>(SampleBytes(options_.format)) * static_cast<size_t>(options_.channels);
}

std::string PcmSource::description() const {
  return fmt::format("{} ({} {}), {} Hz, {} channel{}", name_, is_wav_ ? "WAV" : "raw", FormatName(options_.format),
                     options_.sample_rate, options_.channels, options_.channels == 1 ? "" : "s");
}

// One read. false: nothing came in time. At the end input_ended_ is set, and that counts as something.
bool PcmSource::Fill(int timeout_ms) {
  if (input_ended_) return true;
  if (may_read_ <= 0) {
    input_ended_ = true;
    return true;
  }
  pollfd state = {.fd = fd_, .events = POLLIN, .revents = 0};
  if (poll(&state, 1, timeout_ms) <= 0) return false;  // or a signal came
  bytes_.erase(0, begin_);
  begin_ = 0;
  const size_t before = bytes_.size();
  bytes_.resize(before + static_cast<size_t>(std::min<int64_t>(kReadBytes, may_read_)));
  const ssize_t n = read(fd_, bytes_.data() + before, bytes_.size() - before);
  bytes_.resize(before + static_cast<size_t>(std::max<ssize_t>(n, 0)));
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return false;
  if (n < 0) Throw("{}: cannot be read: {}", name_, std::strerror(errno));
  if (n == 0) input_ended_ = true;
  if (may_read_ != INT64_MAX) may_read_ -= n;
  return true;
}

bool PcmSource::Start(int timeout_ms) {
  while (!started_) {
    started_ = ParseHeader();
    if (!started_ && !Fill(timeout_ms)) return false;
  }
  return true;
}

// Whether what the stream is is known by now; then begin_ is where its audio begins.
bool PcmSource::ParseHeader() {
  const std::string_view bytes = bytes_;
  const std::string_view riff = "RIFF";
  if (bytes.empty() && input_ended_)
    Throw("{}: is empty, expected audio; did the program before the pipe fail?", name_);
  if (bytes.size() < riff.size() && !input_ended_) return false;
  if (const std::string_view other = OtherContainer(bytes); !other.empty())
    Throw(
        "{}: is {}, expected raw PCM or WAV; earshot transcribe - reads it, or ffmpeg -i FILE -f wav - before the pipe",
        name_, other);
  if (!bytes.starts_with(riff)) return true;
  // "RIFF" length "WAVE", then chunks: a name, a length, so many bytes and one more where that is odd.
  if (bytes.size() >= 12 && bytes.substr(8, 4) != "WAVE")
    Throw("{}: is a RIFF file of another kind, expected WAV or raw PCM", name_);
  bool has_format = false;
  for (size_t at = 12; at + 8 <= bytes.size();) {
    const std::string_view chunk = bytes.substr(at, 4);
    const uint32_t size = LittleEndian(bytes.substr(at + 4, 4));
    at += 8;
    if (chunk == "data") {
      if (!has_format) Throw("{}: damaged WAV header: no format before the audio", name_);
      if (!IsPlaceholderLength(size)) left_ = size;
      is_wav_ = true;
      begin_ = at;
      return true;
    }
    if (size > kMaxHeaderBytes) Throw("{}: damaged WAV header: a chunk of {} bytes before the audio", name_, size);
    if (at + size > bytes.size()) break;
    if (chunk == "fmt ") {
      ParseFormatChunk(at, size);
      has_format = true;
    }
    at += size + size % 2;
  }
  if (input_ended_ || bytes.size() > kMaxHeaderBytes)
    Throw("{}: damaged WAV header: no audio after {} bytes", name_, bytes.size());
  return false;
}

void PcmSource::ParseFormatChunk(size_t at, size_t size) {
  if (size < 16) Throw("{}: damaged WAV header: a format of {} bytes, expected 16 or more", name_, size);
  const auto field = [&](size_t offset, size_t length) {
    return LittleEndian(std::string_view(bytes_).substr(at + offset, length));
  };
  uint32_t tag = field(0, 2);
  const uint32_t channels = field(2, 2), rate = field(4, 4), bits = field(14, 2);
  // The real tag is the beginning of a GUID there.
  if (tag == kTagExtensible && size >= 26) tag = field(24, 2);
  constexpr std::array<std::pair<uint32_t, PcmFormat>, 4> kIntegers = {
      {{8, PcmFormat::kU8}, {16, PcmFormat::kS16}, {24, PcmFormat::kS24}, {32, PcmFormat::kS32}}};
  const auto integer = std::find_if(kIntegers.begin(), kIntegers.end(), [&](const auto& p) { return p.first == bits; });
  if (tag == kTagPcm && integer != kIntegers.end()) {
    options_.format = integer->second;
  } else if (tag == kTagFloat && bits == 32) {
    options_.format = PcmFormat::kF32;
  } else {
    Throw("{}: a WAV of format {} with {} bits, expected PCM of 8, 16, 24 or 32 bits or float of 32", name_, tag, bits);
  }
  if (channels < 1 || channels > kMaxChannels || rate < kMinRate || rate > kMaxRate)
    Throw("{}: a WAV of {} channels at {} Hz, expected 1 to {} at {} to {}; is the header damaged?", name_, channels,
          rate, kMaxChannels, kMinRate, kMaxRate);
  options_.channels = static_cast<int>(channels);
  options_.sample_rate = static_cast<int>(rate);
}

size_t PcmSource::Read(std::span<float> mono, int timeout_ms) {
  const size_t frame = FrameBytes(), sample = static_cast<size_t>(SampleBytes(options_.format));
  const auto whole = [&] {
    return static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(bytes_.size() - begin_), left_)) / frame;
  };
  const auto is_end = [&] { return input_ended_ || left_ < static_cast<int64_t>(frame); };
  while (whole() == 0 && !is_end()) {
    if (!Fill(timeout_ms)) return 0;
  }
  const size_t frames = std::min(whole(), mono.size());
  for (size_t i = 0; i < frames; ++i) {
    double sum = 0;
    for (int c = 0; c < options_.channels; ++c, begin_ += sample)
      sum += Sample(std::string_view(bytes_).substr(begin_, sample), options_.format);
    mono[i] = static_cast<float>(sum / options_.channels);
  }
  if (left_ != INT64_MAX) left_ -= static_cast<int64_t>(frames * frame);
  if (!ended_ && whole() == 0 && is_end()) {
    ended_ = true;
    if (bytes_.size() > begin_ && left_ == INT64_MAX) LogWarning("{}: ended within a sample, which is dropped", name_);
  }
  return frames;
}

void PcmSource::Stop() {
  int waiting = 0;
  if (ioctl(fd_, FIONREAD, &waiting) != 0) waiting = 0;
  may_read_ = std::min<int64_t>(std::max(waiting, 0), kReadBytes);
}

}  // namespace earshot
