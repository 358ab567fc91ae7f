// Audio from a pipe as it comes: raw PCM, or a WAV, which is known by its header and obeyed.
//
//   arecord -f S16_LE -r 16000 -c 1 -t raw | earshot mic -
//
//   PcmSource source(STDIN_FILENO, {.sample_rate = 48000, .channels = 2});
//   while (!source.Start(100)) if (stop) return;   // a WAV's rate is known only when it begins
//   size_t n = source.Read(block, 100);            // the mean of the channels
//
// Reads from a pipe may end anywhere: what is left of a sample waits for its rest. Where the stream ends within one,
// that one is dropped. A WAV may be of 8, 16, 24 or 32 bits or float; a length that its writer did not know yet, as on
// every pipe of arecord, is no end. The descriptor stays the caller's. Not thread-safe.
#pragma once

#include <string>
#include <vector>

#include "src/audio/live_source.h"

namespace earshot {

enum class PcmFormat { kU8, kS16, kS24, kS32, kF32 };  // little endian

// "s16le" or "f32le". Throws Error.
PcmFormat ParsePcmFormat(const std::string& name);

struct PcmOptions {
  // Of raw PCM; a WAV's header goes before them.
  int sample_rate = 16000;
  int channels = 1;
  PcmFormat format = PcmFormat::kS16;
};

class PcmSource : public LiveSource {
 public:
  // name: how errors call it. Throws Error for options out of range.
  PcmSource(int fd, const PcmOptions& options, std::string name = "standard input");

  // Waits for the first bytes, of a WAV for all of its header. Throws Error: the header is damaged or of a codec, or it
  // is another container, which would be noise as PCM.
  bool Start(int timeout_ms) override;
  int sample_rate() const override { return options_.sample_rate; }
  int channels() const { return options_.channels; }
  std::string description() const override;
  size_t Read(std::span<float> mono, int timeout_ms) override;
  bool ended() const override { return ended_; }
  // What is in the pipe now is still read, 64 KiB at the most.
  void Stop() override;

 private:
  bool Fill(int timeout_ms);
  bool ParseHeader();
  void ParseFormatChunk(size_t at, size_t size);
  size_t FrameBytes() const;

  const int fd_;
  PcmOptions options_;
  const std::string name_;
  std::string bytes_;  // read and not yet given, from begin_ on
  size_t begin_ = 0;
  int64_t left_ = INT64_MAX;      // bytes of audio that are to come still, those in bytes_ included
  int64_t may_read_ = INT64_MAX;  // bytes to read still, after Stop
  bool started_ = false, is_wav_ = false;
  bool input_ended_ = false, ended_ = false;
};

}  // namespace earshot
