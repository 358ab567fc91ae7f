#include "src/audio/wav_recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "src/audio/wav_format.h"
#include "src/base/error.h"

namespace earshot {
namespace {

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
  if (data_bytes_ + samples.size() * kWavBytesPerSample > UINT32_MAX - kWavHeaderBytes)
    Throw("{}: has reached WAV's 4 GiB; what was heard until now is kept, the rest is not", path_);
  bytes_.clear();
  for (const float sample : samples) AppendWavSample(std::isnan(sample) ? 0.0f : sample, bytes_);
  WriteAt(file_.get(), bytes_, kWavHeaderBytes + data_bytes_, path_);
  data_bytes_ += bytes_.size();
  if (data_bytes_ - told_bytes_ >= kWavBytesPerSample * static_cast<uint64_t>(sample_rate_)) WriteHeader();
}

void WavRecorder::Finish() {
  if (told_bytes_ != data_bytes_) WriteHeader();
}

void WavRecorder::WriteHeader() {
  const std::string header = WavHeader(static_cast<uint32_t>(data_bytes_), static_cast<uint32_t>(sample_rate_));
  WriteAt(file_.get(), header, 0, path_);
  told_bytes_ = data_bytes_;
}

}  // namespace earshot
