// Audio as it arrives: what a microphone and a pipe have in common. One channel, at the source's own rate.
//
//   std::unique_ptr<LiveSource> source = std::make_unique<Microphone>(MicrophoneOptions{});
//   while (!source->Start(100)) if (stop) return;
//   while (!source->ended()) {
//     Use(std::span(block).first(source->Read(block, 100)));
//     if (stop) source->Stop();
//   }
//
// A source belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace earshot {

// Audio that came and could not be kept: the reader, or the machine, was too slow.
struct LostAudio {
  int64_t times = 0;   // gaps
  int64_t frames = 0;  // known to be lost; a gap below this program (in the driver, say) has no known length
};

class LiveSource {
 public:
  virtual ~LiveSource() = default;
  // Waits up to timeout_ms for the source to be ready; false: not yet. Throws Error when it never will be.
  virtual bool Start(int timeout_ms) = 0;
  // Hz of what Read gives. After Start.
  virtual int sample_rate() const = 0;
  // For people: "built-in microphone (ALSA), 48000 Hz". After Start.
  virtual std::string description() const = 0;
  // mono: (S) in [-1, 1], finite. Waits up to timeout_ms for the first sample and gives what is there: 0 when none
  // came, or at the end. Throws Error when the source is lost.
  virtual size_t Read(std::span<float> mono, int timeout_ms) = 0;
  // Nothing comes any more, and all that came was read.
  virtual bool ended() const = 0;
  // Takes no more in; what came before can still be read, without waiting.
  virtual void Stop() = 0;
  virtual LostAudio lost() const { return {}; }
};

}  // namespace earshot
