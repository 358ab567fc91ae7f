#include "src/audio/wav_writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {
namespace {

constexpr size_t kHeaderBytes = 44;
constexpr size_t kBytesPerSample = 2;

void AppendLittleEndian(std::string& bytes, uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> 8 * i & 0xFF);
}

// RIFF header, a "fmt " chunk for PCM, and the beginning of the data chunk.
std::string Header(uint32_t data_bytes, uint32_t sample_rate) {
  std::string header = "RIFF";
  AppendLittleEndian(header, kHeaderBytes - 8 + data_bytes, 4);
  header += "WAVEfmt ";
  AppendLittleEndian(header, 16, 4);  // length of this chunk
  AppendLittleEndian(header, 1, 2);   // PCM
  AppendLittleEndian(header, 1, 2);   // channels
  AppendLittleEndian(header, sample_rate, 4);
  AppendLittleEndian(header, sample_rate * kBytesPerSample, 4);  // bytes a second
  AppendLittleEndian(header, kBytesPerSample, 2);                // bytes a frame
  AppendLittleEndian(header, 8 * kBytesPerSample, 2);            // bits a sample
  header += "data";
  AppendLittleEndian(header, data_bytes, 4);
  return header;
}

}  // namespace

void WriteWav(const std::string& path, std::span<const float> samples, int sample_rate) {
  if (sample_rate < 1) Throw("{}: sample rate {} Hz, expected at least 1", path, sample_rate);
  if (samples.size() > (UINT32_MAX - kHeaderBytes) / kBytesPerSample)
    Throw("{}: {} samples, more than a WAV file can hold; write it in pieces", path, samples.size());

  AtomicFile file(path);
  const std::string header =
      Header(static_cast<uint32_t>(samples.size() * kBytesPerSample), static_cast<uint32_t>(sample_rate));
  file.stream().write(header.data(), static_cast<std::streamsize>(header.size()));
  std::string bytes;
  constexpr size_t kBlock = 1 << 16;
  for (size_t at = 0; at < samples.size(); at += kBlock) {
    bytes.clear();
    for (size_t i = at; i < std::min(at + kBlock, samples.size()); ++i) {
      if (std::isnan(samples[i])) Throw("{}: sample {} is NaN; not written", path, i);
      const float scaled = std::clamp(std::round(samples[i] * 32768.0f), -32768.0f, 32767.0f);
      AppendLittleEndian(bytes, static_cast<uint32_t>(static_cast<int32_t>(scaled)), 2);
    }
    file.stream().write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  file.Commit();
}

}  // namespace earshot
