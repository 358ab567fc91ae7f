#include "src/audio/wav_format.h"

#include <algorithm>
#include <cmath>

namespace earshot {
namespace {

void AppendLittleEndian(std::string& bytes, uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> 8 * i & 0xFF);
}

}  // namespace

std::string WavHeader(uint32_t data_bytes, uint32_t sample_rate) {
  std::string header = "RIFF";
  AppendLittleEndian(header, kWavHeaderBytes - 8 + data_bytes, 4);
  header += "WAVEfmt ";
  AppendLittleEndian(header, 16, 4);  // length of this chunk
  AppendLittleEndian(header, 1, 2);   // PCM
  AppendLittleEndian(header, 1, 2);   // channels
  AppendLittleEndian(header, sample_rate, 4);
  AppendLittleEndian(header, sample_rate * kWavBytesPerSample, 4);  // bytes a second
  AppendLittleEndian(header, kWavBytesPerSample, 2);                // bytes a frame
  AppendLittleEndian(header, 8 * kWavBytesPerSample, 2);            // bits a sample
  header += "data";
  AppendLittleEndian(header, data_bytes, 4);
  return header;
}

void AppendWavSample(float sample, std::string& bytes) {
  const float scaled = std::clamp(std::round(sample * 32768.0f), -32768.0f, 32767.0f);
  AppendLittleEndian(bytes, static_cast<uint32_t>(static_cast<int32_t>(scaled)), 2);
}

}  // namespace earshot
