// What a WAV file of one channel with 16 bit PCM consists of: for wav_writer and wav_recorder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace earshot {

inline constexpr size_t kWavHeaderBytes = 44;
inline constexpr size_t kWavBytesPerSample = 2;

// RIFF header, a "fmt " chunk for PCM, and the beginning of the data chunk.
std::string WavHeader(uint32_t data_bytes, uint32_t sample_rate);

// round(32768 sample), held within 16 bits. Not for NaN.
void AppendWavSample(float sample, std::string& bytes);

}  // namespace earshot
