// Recognition as a server or a microphone sees it: many live streams and many recordings share one model, and no call
// waits for the network.
//
//   std::unique_ptr<RecognitionService> service = ...;
//   auto stream = service->OpenStream({.sample_rate = 48000}, [](StreamUpdate update) { Show(update); });
//   stream->AcceptWaveform(samples);                    // any number of samples, as they come
//   stream->InputFinished();                            // nothing is left behind; the last update says `finished`
//
// Listeners are called on the service's own threads: one call at a time for each stream or recording, in order. They
// must not wait, and hand what they get to their own thread. A handle may be destroyed at any time, in a listener too:
// what it was computing is dropped, and at most one call that had begun still ends. The service outlives its handles.
// Everything here is thread-safe, but for calls on one handle, which come one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/decode/transcript.h"

namespace earshot {

struct StreamOptions {
  // Hz of the samples that AcceptWaveform gets, 4000 to 192000; resampled to the model's rate.
  double sample_rate = 16000;
  // Milliseconds of audio that a frame may wait for: chunk and lookahead. 0: the service's default.
  int latency_ms = 0;
};

// What happened in a stream since the update before. Times are seconds from the stream's start (or its last Clear).
struct StreamUpdate {
  // Segments that an endpoint, Commit or the end of input has closed, in order: they never change.
  std::vector<Segment> finals;
  // The words behind the last final segment. The first stable_words of them never change either; the others may.
  std::vector<Word> words;
  size_t stable_words = 0;
  // The gate of the next encoder frames, in (0, 1]: gate[0] is that of the frame that begins at gate_start_s, and each
  // lasts ServiceInfo::encoder_frame_s. Empty where the model has none.
  std::vector<float> gate;
  double gate_start_s = 0;
  // Whether the last frame that was recognised is speech, and when it became so.
  bool speech = false;
  double speech_since_s = 0;
  // Audio taken in, and audio recognised.
  double received_s = 0;
  double recognized_s = 0;
  // Set in the answer to a Commit, once all that was received before it is final.
  bool committed = false;
  // The last update: everything is final, or failed. No other follows.
  bool finished = false;
  // Why the stream failed; empty: it did not.
  std::string error;
};

class LiveStream {
 public:
  virtual ~LiveStream() = default;
  // samples: (S) at StreamOptions::sample_rate, in [-1, 1]; NaN and infinity count as 0. Copies them and returns.
  virtual void AcceptWaveform(std::span<const float> samples) = 0;
  // Seconds of audio that the network could compute and has not: what waits for the rest of its chunk, or is looked
  // ahead at, is not among them. Whoever reads from a network stops above some limit and looks again when an update
  // comes, one for each chunk that was computed, and now and then.
  virtual double queued_s() const = 0;
  // Makes all that was received so far final; the stream goes on. Answered by an update with `committed`.
  virtual void Commit() = 0;
  // Forgets what was received and not yet made final; times begin at 0 again. Not answered.
  virtual void Clear() = 0;
  // The end: answered by an update with `finished`. No call may follow.
  virtual void InputFinished() = 0;
};

struct RecordingUpdate {
  // Segments in order, each once.
  std::vector<Segment> segments;
  double done_s = 0;
  double duration_s = 0;  // of the recording; 0: not known before the end
  bool finished = false;
  // Why the recording cannot be transcribed (no audio, damaged, too long): empty: it can.
  std::string error;
};

class RecordingJob {
 public:
  virtual ~RecordingJob() = default;  // stops it
};

struct ServiceInfo {
  std::string model;  // its name, "an4"
  std::string language;
  int sample_rate = 16000;  // of the model, Hz
  double encoder_frame_s = 0.04;
  int default_latency_ms = 0;
  int max_streams = 0;
};

// Counters since the service began, and gauges of now, for /metrics.
struct ServiceStats {
  int64_t streams = 0, recordings = 0;  // open now
  int64_t streams_total = 0, recordings_total = 0, refused_total = 0, failed_total = 0;
  double queued_s = 0;         // audio that waits, of all streams
  double audio_s_total = 0;    // recognised
  double compute_s_total = 0;  // the network's time for it
  int64_t frames_total = 0, frames_skipped_total = 0;
  // Seconds from the arrival of a chunk's last sample to its update: counts[i] were at most kLatencyBounds[i], the last
  // longer than all; not cumulative.
  static constexpr double kLatencyBounds[] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5};
  int64_t latency_counts[10] = {};
  double latency_s_total = 0;
};

class RecognitionService {
 public:
  using StreamListener = std::function<void(StreamUpdate)>;
  using RecordingListener = std::function<void(RecordingUpdate)>;

  virtual ~RecognitionService() = default;
  virtual const ServiceInfo& info() const = 0;
  // nullptr: max_streams are open. Throws Error for options out of range.
  virtual std::unique_ptr<LiveStream> OpenStream(const StreamOptions& options, StreamListener listener) = 0;
  // A file of any format and length. nullptr: too many wait already.
  virtual std::unique_ptr<RecordingJob> Transcribe(const std::string& path, RecordingListener listener) = 0;
  virtual ServiceStats Stats() const = 0;
};

}  // namespace earshot
