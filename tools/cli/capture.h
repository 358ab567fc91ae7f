// The thread between a source of audio and a live stream: hears, keeps, measures, and passes on.
//
//   Capture capture(source, stream, {.save = "x.wav"}, {.state = [](InputState s) { ... }});
//   capture.Stop();    // what was heard before is still passed on, and then the end
//   capture.Join();
//   if (!capture.error().empty()) ...
//
// Whatever ends it (Stop, the end of the source, a lost device), the stream is told InputFinished, so the last words
// are not lost. Source and stream are the thread's alone while it runs. The callbacks come from it and must not wait.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "src/audio/live_source.h"
#include "src/audio/wav_recorder.h"
#include "src/stream/recognition_service.h"
#include "tools/cli/live_view.h"

namespace earshot {

struct CaptureOptions {
  // Seconds of audio after which it ends; 0: none.
  double duration_s = 0;
  // A WAV file for what is heard; "": none.
  std::string save;
  // Seconds that may wait for the network before nothing more is read. 0: no end, as a microphone needs, which does not
  // wait either.
  double max_queued_s = 0;
};

struct CaptureCallbacks {
  // Every tenth of a second of audio.
  std::function<void(InputState)> state;
  // One line; what it speaks of does not end the capture.
  std::function<void(std::string)> warning;
};

class Capture {
 public:
  // Begins. source has been started. Throws Error when the file to save cannot be made.
  Capture(LiveSource& source, LiveStream& stream, const CaptureOptions& options, CaptureCallbacks callbacks);
  // Stops and joins.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  void Stop() { stop_ = true; }
  void Join();

  // After Join. What ended it before its time, or kept it from saving all; "": nothing.
  const std::string& error() const { return error_; }
  const InputState& state() const { return state_; }

 private:
  void Run();
  void Hear();
  void Take(std::span<const float> samples);
  void Save(std::span<const float> samples);

  LiveSource& source_;
  LiveStream& stream_;
  const CaptureOptions options_;
  const CaptureCallbacks callbacks_;
  std::unique_ptr<WavRecorder> recorder_;
  int64_t samples_ = 0, told_samples_ = 0;
  InputState state_;
  std::string error_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace earshot
