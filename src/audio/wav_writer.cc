#include "src/audio/wav_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "src/audio/wav_format.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {

void WriteWav(const std::string& path, std::span<const float> samples, int sample_rate) {
  if (sample_rate < 1) Throw("{}: sample rate {} Hz, expected at least 1", path, sample_rate);
  if (samples.size() > (UINT32_MAX - kWavHeaderBytes) / kWavBytesPerSample)
    Throw("{}: {} samples, more than a WAV file can hold; write it in pieces", path, samples.size());

  AtomicFile file(path);
  const std::string header =
      WavHeader(static_cast<uint32_t>(samples.size() * kWavBytesPerSample), static_cast<uint32_t>(sample_rate));
  file.stream().write(header.data(), static_cast<std::streamsize>(header.size()));
  std::string bytes;
  constexpr size_t kBlock = 1 << 16;
  for (size_t at = 0; at < samples.size(); at += kBlock) {
    bytes.clear();
    for (size_t i = at; i < std::min(at + kBlock, samples.size()); ++i) {
      if (std::isnan(samples[i])) Throw("{}: sample {} is NaN; not written", path, i);
      AppendWavSample(samples[i], bytes);
    }
    file.stream().write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  file.Commit();
}

}  // namespace earshot
