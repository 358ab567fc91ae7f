// A microphone, by PortAudio: any device, rate and number of channels, as one channel of float samples.
//
//   for (const AudioDevice& device : ListMicrophones()) fmt::print("{} {}\n", device.index, device.name);
//   Microphone microphone({.device = "usb"});
//   microphone.Start(0);
//   std::vector<float> block(4096);
//   while (size_t n = microphone.Read(block, 1000)) Use(std::span(block).first(n));
//
// PortAudio's own thread mixes the channels (their mean) into a ring of a few seconds, without a lock and without
// memory from the heap; Read takes them out on the caller's thread. A reader that is slower than that loses the newest
// audio: counted by lost(), never an error. So are gaps that the driver tells of.
//
// ALSA and JACK write pages to stderr while PortAudio looks for devices. Here they go to the log, at level debug: while
// a microphone is listed, opened or closed, stderr of the whole process is taken aside.
//
// PortAudio is not thread-safe: one thread at a time lists, opens and closes. Reading is free of that.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "src/audio/live_source.h"
#include "src/audio/sample_ring.h"

namespace earshot {

struct AudioDevice {
  int index = 0;  // PortAudio's, as other programs count too; outputs lie between
  std::string name;
  std::string api;   // ALSA, JACK, Core Audio ...
  int channels = 0;  // the most
  double default_rate = 0;
  bool is_default = false;
};

// All devices that can record. Throws Error when the audio system cannot be reached; no device: an empty vector.
std::vector<AudioDevice> ListMicrophones();

// wanted: an index, a name, or a part of one (of any case) that only one device has; "": the system's default, or else
// the first. Throws Error: there is none, or several; with the names that there are.
const AudioDevice& ChooseMicrophone(const std::vector<AudioDevice>& devices, const std::string& wanted);

struct MicrophoneOptions {
  // As ChooseMicrophone takes it.
  std::string device;
  // Hz. 0: the device's own, so that nothing resamples it before soxr does.
  int sample_rate = 0;
  // 0: one where the device gives that, else the fewest of 2 and all.
  int channels = 0;
  // Milliseconds that audio lies in the driver. Below 20 busy machines begin to lose some.
  int driver_latency_ms = 30;
  // Seconds that the reader may be late.
  double ring_s = 10;
  // Seconds without any audio after which the device counts as lost: a silent one still sends zeros.
  double silence_is_loss_s = 5;
};

class Microphone : public LiveSource {
 public:
  // Opens the device; nothing is recorded yet. Throws Error: no such device, a rate or channels that it does not have
  // (with those it has), in use by another program.
  explicit Microphone(const MicrophoneOptions& options);
  ~Microphone() override;
  Microphone(const Microphone&) = delete;
  Microphone& operator=(const Microphone&) = delete;

  // Begins to record; true. Throws Error when the device refuses.
  bool Start(int timeout_ms) override;
  int sample_rate() const override { return sample_rate_; }
  std::string description() const override;
  // Throws Error when the device was unplugged or its sound server ended, once what came before has been read.
  size_t Read(std::span<float> mono, int timeout_ms) override;
  bool ended() const override { return stopped_ && ring_.empty(); }
  void Stop() override;
  LostAudio lost() const override { return ring_.lost(); }

  int channels() const { return channels_; }

 private:
  struct Callbacks;
  void Open(const MicrophoneOptions& options);

  AudioDevice device_;
  double silence_is_loss_s_;
  int sample_rate_ = 0, channels_ = 0;
  SampleRing ring_;
  void* stream_ = nullptr;  // PaStream
  bool stopped_ = false;
  std::optional<std::chrono::steady_clock::time_point> heard_;  // when Read last had something, or first was called
};

}  // namespace earshot
