#include "src/stream/transcriber.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/decode/ctc_greedy.h"
#include "src/frontend/online_features.h"

namespace earshot {
namespace {

// One recording on its way: samples go in, the transcript comes out.
class Recording {
 public:
  Recording(std::shared_ptr<const AsrModel> model, const TranscriberOptions& options,
            const TranscribeCallbacks& callbacks)
      : model_(std::move(model)),
        callbacks_(callbacks),
        features_(model_->extractor()),
        acoustic_(MakeAcousticStream(model_, options.window, options.reach ? &*options.reach : nullptr)),
        decoder_(model_->tokenizer(), model_->encoder_frame_s()),
        segmenter_(options.segmenter),
        edge_(model_->EdgePadding()) {
    const double frame_s = model_->encoder_frame_s() / model_->config().encoder.subsampling.factor;
    chunk_frames_ = std::max<int64_t>(1, std::llround(options.chunk_s / frame_s));
  }

  void AcceptWaveform(std::span<const float> samples) {
    if (samples.empty()) return;
    if (received_ == 0) features_.AcceptWaveform(edge_);
    received_ += static_cast<int64_t>(samples.size());
    features_.AcceptWaveform(samples);
    if (features_.NumFramesReady() - recognized_ >= chunk_frames_) Recognize(false);
  }

  Transcript Finish() {
    if (received_ > 0) features_.AcceptWaveform(edge_);
    features_.InputFinished();
    transcript_.duration_s = Seconds();
    Recognize(true);
    Append(segmenter_.InputFinished());
    return std::move(transcript_);
  }

 private:
  double Seconds() const { return static_cast<double>(received_) / model_->sample_rate(); }

  // All frames that are ready, through network, decoder and segmenter.
  void Recognize(bool final) {
    const int64_t ready = features_.NumFramesReady();
    std::vector<float> chunk;  // (t, C)
    if (ready > recognized_) {
      const std::span<const float> frames = features_.GetFrames(recognized_, ready);
      chunk.assign(frames.begin(), frames.end());
      model_->cmvn().Apply(chunk);
    }
    features_.DiscardBefore(ready);
    recognized_ = ready;
    const AcousticFrames frames = acoustic_->Accept(chunk, final);
    if (frames.log_probs.defined()) decoder_.Accept(frames.log_probs);
    if (frames.gate.defined() && callbacks_.gate) GiveGate(frames.gate.contiguous());
    for (Word& word : decoder_.TakeWords(final)) {
      // Times without the padding; the first and last encoder frame may stick out of the recording.
      const double end_s = final ? transcript_.duration_s : Seconds();
      word.start_s = std::clamp(word.start_s - EdgeSeconds(), 0.0, end_s);
      word.end_s = std::clamp(word.end_s - EdgeSeconds(), word.start_s, end_s);
      Append(segmenter_.AcceptWord(std::move(word)));
    }
    if (callbacks_.progress) callbacks_.progress(Seconds());
  }

  double EdgeSeconds() const { return static_cast<double>(edge_.size()) / model_->sample_rate(); }

  // gate: (t') of the next frames; those of the padding are passed over.
  void GiveGate(const torch::Tensor& gate) {
    const int64_t edge = model_->config().edge_padding_frames;
    const int64_t end = edge + static_cast<int64_t>(std::ceil(Seconds() / model_->encoder_frame_s()));
    const int64_t first = std::clamp(edge - gate_frames_, int64_t{0}, gate.numel());
    const int64_t last = std::clamp(end - gate_frames_, first, gate.numel());
    gate_frames_ += gate.numel();
    if (last > first) callbacks_.gate({gate.data_ptr<float>() + first, static_cast<size_t>(last - first)});
  }

  void Append(std::vector<Segment> segments) {
    for (Segment& segment : segments) {
      if (!transcript_.text.empty()) transcript_.text += ' ';
      transcript_.text += segment.text;
      if (callbacks_.segment) callbacks_.segment(segment);
      transcript_.segments.push_back(std::move(segment));
    }
  }

  std::shared_ptr<const AsrModel> model_;
  const TranscribeCallbacks& callbacks_;
  OnlineFeatures features_;
  std::unique_ptr<AcousticStream> acoustic_;
  CtcGreedyDecoder decoder_;
  Segmenter segmenter_;
  std::vector<float> edge_;  // zeros before and after the recording
  int64_t received_ = 0;     // samples of the recording
  int64_t gate_frames_ = 0;  // encoder frames whose gate has come
  int64_t chunk_frames_ = 0;
  int64_t recognized_ = 0;  // frames that went through the network
  Transcript transcript_;
};

}  // namespace

void TranscriberOptions::Visit(OptionVisitor& v) {
  v.Field("chunk_s", chunk_s);
  v.Group("window", window);
  v.Group("segmenter", segmenter);
}

void TranscriberOptions::Validate() const {
  if (!(chunk_s > 0 && chunk_s <= 600)) Throw("chunk_s is {}, expected more than 0 and at most 600", chunk_s);
  window.Validate();
  segmenter.Validate();
}

Transcriber::Transcriber(std::shared_ptr<const AsrModel> model, const TranscriberOptions& options)
    : model_(std::move(model)), options_(options) {
  options_.Validate();
}

Transcript Transcriber::Transcribe(AudioReader& reader, const TranscribeCallbacks& callbacks) const {
  EARSHOT_CHECK(reader.sample_rate() == sample_rate(), "a reader of {} Hz for a model of {} Hz", reader.sample_rate(),
                sample_rate());
  Recording recording(model_, options_, callbacks);
  std::vector<float> block(static_cast<size_t>(sample_rate()));  // a second at a time
  while (const size_t n = reader.Read(block)) recording.AcceptWaveform(std::span<const float>(block).first(n));
  return recording.Finish();
}

Transcript Transcriber::Transcribe(std::span<const float> samples, const TranscribeCallbacks& callbacks) const {
  Recording recording(model_, options_, callbacks);
  const auto block = static_cast<size_t>(sample_rate());
  for (; samples.size() > block; samples = samples.subspan(block)) recording.AcceptWaveform(samples.first(block));
  recording.AcceptWaveform(samples);
  return recording.Finish();
}

}  // namespace earshot
