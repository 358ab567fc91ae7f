// A WAV file of one channel, 16 bit PCM: what every program reads.
//
//   WriteWav("cut.wav", samples, 16000);
//
// x becomes round(32768 x), held within the 16 bits: samples that were read from 16 bit audio come back exactly.
#pragma once

#include <span>
#include <string>

namespace earshot {

// samples: (S) mono in [-1, 1], louder ones are clipped. sample_rate in Hz. The file is whole or not there (see
// atomic_file.h). Throws Error: a NaN (with its index), more than WAV's 4 GiB, a rate below 1, a full disk.
void WriteWav(const std::string& path, std::span<const float> samples, int sample_rate);

}  // namespace earshot
