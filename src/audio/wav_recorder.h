// A WAV that grows, of one channel with 16 bit PCM, valid at any moment: its header is brought up to date every second,
// so that even a killed program leaves what was heard.
//
//   WavRecorder recorder("meeting.wav", 16000);
//   recorder.Append(samples);   // as often as some come
//   recorder.Finish();
//
// Samples become 16 bits as WriteWav makes them (see wav_writer.h), which writes a whole signal at once. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "src/audio/unique_fd.h"

namespace earshot {

class WavRecorder {
 public:
  // Replaces a file of that name. Throws Error: it cannot be made, a rate below 1.
  WavRecorder(std::string path, int sample_rate);
  // As Finish; an error is not told then.
  ~WavRecorder();
  WavRecorder(const WavRecorder&) = delete;
  WavRecorder& operator=(const WavRecorder&) = delete;

  // samples: (S) in [-1, 1]; louder ones are clipped, what is no number becomes 0. Throws Error: a full disk, more than
  // WAV's 4 GiB (at 48 kHz half a day). What was written before stays valid.
  void Append(std::span<const float> samples);
  // The header for all that was appended. Throws Error.
  void Finish();

 private:
  void WriteHeader();

  const std::string path_;
  const int sample_rate_;
  UniqueFd file_;
  std::string bytes_;        // 16 bit samples of one Append
  uint64_t data_bytes_ = 0;  // written
  uint64_t told_bytes_ = 0;  // of the header
};

}  // namespace earshot
