#include "src/audio/wav_recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr uint64_t kHeaderBytes = 44, kBytesPerSample = 2;

void AppendLittleEndian(std::string& bytes, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> 8 * i & 0xFF);
}

// All of bytes, from offset on. Throws Error.
void WriteAt(int file, std::string_view bytes, uint64_t offset, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Throw("{}: cannot be written: {}; what was heard before is kept", path, std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

}  // namespace

WavRecorder::WavRecorder(std::string path, int sample_rate) : path_(std::move(path)), sample_rate_(sample_rate) {
  if (sample_rate < 1) Throw("{}: sample rate {} Hz, expected at least 1", path_, sample_rate);
  file_ = UniqueFd(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file_.get() < 0) Throw("{}: cannot be made: {}; is the folder there?", path_, std::strerror(errno));
  WriteHeader();
}

WavRecorder::~WavRecorder() {
  try {
    Finish();
  } catch (const Error&) {
    // Told by Append or Finish already, or to nobody.
  }
}

void WavRecorder::Append(std::span<const float> samples) {
  if (data_bytes_ + samples.size() * kBytesPerSample > UINT32_MAX - kHeaderBytes)
    Throw("{}: has reached WAV's 4 GiB; what was heard until now is kept, the rest is not", path_);
  bytes_.clear();
  for (const float sample : samples) {
    const float value = std::isnan(sample) ? 0.0f : sample;
    const float scaled = std::clamp(std::round(value * 32768.0f), -32768.0f, 32767.0f);
    AppendLittleEndian(bytes_, static_cast<uint16_t>(static_cast<int16_t>(scaled)), 2);
  }
  WriteAt(file_.get(), bytes_, kHeaderBytes + data_bytes_, path_);
  data_bytes_ += bytes_.size();
  if (data_bytes_ - told_bytes_ >= kBytesPerSample * static_cast<uint64_t>(sample_rate_)) WriteHeader();
}

void WavRecorder::Finish() {
  if (told_bytes_ != data_bytes_) WriteHeader();
}

// RIFF header, a "fmt " chunk for PCM, and the beginning of the data chunk.
void WavRecorder::WriteHeader() {
  const auto rate = static_cast<uint64_t>(sample_rate_);
  std::string header = "RIFF";
  AppendLittleEndian(header, kHeaderBytes - 8 + data_bytes_, 4);
  header += "WAVEfmt ";
  AppendLittleEndian(header, 16, 4);  // length of this chunk
  AppendLittleEndian(header, 1, 2);   // PCM
  AppendLittleEndian(header, 1, 2);   // channels
  AppendLittleEndian(header, rate, 4);
  AppendLittleEndian(header, rate * kBytesPerSample, 4);  // bytes a second
  AppendLittleEndian(header, kBytesPerSample, 2);         // bytes a frame
  AppendLittleEndian(header, 8 * kBytesPerSample, 2);     // bits a sample
  header += "data";
  AppendLittleEndian(header, data_bytes_, 4);
  WriteAt(file_.get(), header, 0, path_);
  told_bytes_ = data_bytes_;
}

}  // namespace earshot
