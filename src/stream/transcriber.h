// Recordings of any length to transcripts, in constant memory: audio, features, network, words, segments.
//
//   const Transcriber transcriber(AsrModel::Load("models/an4", torch::kCPU));
//   auto reader = AudioReader::Open("talk.mp3", {.sample_rate = transcriber.sample_rate()});
//   Transcript transcript = transcriber.Transcribe(*reader);
//
// A piece of some seconds is in memory at a time; beside it only the transcript grows. With a bounded pattern
// the result is that of the whole recording at once, wherever it is cut; see acoustic_stream.h for the others.
// Thread-safe: several threads may transcribe recordings of their own with one Transcriber.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "src/audio/audio_reader.h"
#include "src/base/options.h"
#include "src/decode/transcript.h"
#include "src/model/asr_model.h"
#include "src/stream/acoustic_stream.h"
#include "src/stream/segmenter.h"

namespace earshot {

struct TranscriberOptions {
  // Seconds of audio that go through the network at a time: longer is faster, up to some 20 s, and holds more memory.
  double chunk_s = 20;
  // How far the encoder looks. nullopt: as the model's pattern says.
  std::optional<Reach> reach{};
  // Only for patterns that are not bounded.
  WindowOptions window{};
  SegmenterOptions segmenter{};

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// What a caller may want to know on the way; each may be empty. Called on the thread of Transcribe, in order.
struct TranscribeCallbacks {
  // Seconds of audio taken in so far; at least once for each chunk.
  std::function<void(double done_s)> progress;
  // The gate of the next encoder frames, (t'), in (0, 1]. Never called where the model has none.
  std::function<void(std::span<const float> gate)> gate;
  // The next segment, as soon as it is complete.
  std::function<void(const Segment& segment)> segment;
};

class Transcriber {
 public:
  // Throws Error when the options are not valid.
  explicit Transcriber(std::shared_ptr<const AsrModel> model, const TranscriberOptions& options = {});

  // What the reader still gives, at sample_rate(). An empty recording, or one shorter than a frame, has an empty
  // transcript. Throws Error when the audio is damaged.
  Transcript Transcribe(AudioReader& reader, const TranscribeCallbacks& callbacks = {}) const;
  // samples: (S) in [-1, 1], at sample_rate().
  Transcript Transcribe(std::span<const float> samples, const TranscribeCallbacks& callbacks = {}) const;

  // Hz.
  int sample_rate() const { return model_->sample_rate(); }

 private:
  std::shared_ptr<const AsrModel> model_;
  TranscriberOptions options_;
};

}  // namespace earshot
