#include "src/stream/stream_recognizer.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

// A gate below it is no speech: the one that is trained as voice activity is near 0 or near 1.
constexpr float kSpeech = 0.5f;
// Seconds of silence that end speech: shorter ones stand within words.
constexpr double kHangover_s = 0.2;
// Seconds that are computed at once where more wait.
constexpr double kLongestStep_s = 4;

}  // namespace

StreamRecognizer::StreamRecognizer(std::shared_ptr<const AsrModel> model, const StreamRecognizerOptions& options)
    : model_(std::move(model)),
      options_(options),
      edge_(model_->EdgePadding()),
      frame_s_(model_->encoder_frame_s()),
      gated_(model_->config().encoder.gate.kind != GateKind::kOff),
      endpoint_(options.endpoint, model_->encoder_frame_s()) {
  if (!(options.sample_rate >= 4000 && options.sample_rate <= 192000))
    Throw("a stream of {} Hz; expected 4000 to 192000", options.sample_rate);
  const Pattern pattern = options.reach ? options.reach->pattern : model_->network().encoder().pattern();
  for (const PatternTerm& term : pattern.terms()) {
    if (term.kind == PatternKind::kLocal) chunk_ = std::max(chunk_, term.chunk);
  }
  if (options.reach) right_ = options.reach->right_frames;
  Begin();
}

void StreamRecognizer::Begin() {
  resampler_ = std::make_unique<Resampler>(options_.sample_rate, model_->sample_rate());
  features_ = std::make_unique<OnlineFeatures>(model_->extractor());
  state_ = model_->network().encoder().StartStream(options_.reach ? &*options_.reach : nullptr);
  decoder_ = MakeStreamDecoder(model_->tokenizer(), frame_s_, options_.decoder);
  endpoint_.Reset();
  input_finished_ = computed_all_ = false;
  given_ = frames_ = quiet_ = samples_ = 0;
}

double StreamRecognizer::received_s() const { return begin_s_ + static_cast<double>(samples_) / options_.sample_rate; }

void StreamRecognizer::Feed(std::span<const float> samples) {
  if (samples.empty()) return;
  if (features_->num_samples() == 0) features_->AcceptWaveform(edge_);
  features_->AcceptWaveform(samples);
}

void StreamRecognizer::AcceptWaveform(std::span<const float> samples) {
  EARSHOT_CHECK(!input_finished_, "samples behind the end of the input");
  samples_ += static_cast<int64_t>(samples.size());
  std::vector<float> resampled;
  resampler_->Process(samples, resampled);
  Feed(resampled);
}

void StreamRecognizer::InputFinished() {
  if (input_finished_) return;
  std::vector<float> rest;
  resampler_->Flush(rest);
  Feed(rest);
  if (features_->num_samples() > 0) features_->AcceptWaveform(edge_);
  features_->InputFinished();
  input_finished_ = true;
  if (features_->NumFramesReady() > 0) return;
  computed_all_ = true;  // shorter than a frame: nothing is said
  FinishSegment();
}

void StreamRecognizer::Restart() {
  const double received = received_s();
  Begin();
  begin_s_ = received;
}

void StreamRecognizer::Clear() {
  Begin();
  begin_s_ = 0;
  update_ = {};
  speech_ = false;
  speech_since_s_ = 0;
}

int64_t StreamRecognizer::ReadyFrames() const {
  const int64_t ready = features_->NumFramesReady();
  if (input_finished_) return ready;
  const Encoder& encoder = model_->network().encoder();
  const int64_t chunks = std::max<int64_t>(0, encoder.WholeFrames(ready) - right_) / chunk_;
  return chunks == 0 ? 0 : encoder.FeaturesFor(chunks * chunk_ + right_);
}

double StreamRecognizer::ready_s() const {
  return 1e-3 * model_->config().features.fbank.frame_shift_ms * static_cast<double>(ReadyFrames() - given_);
}

bool StreamRecognizer::Ready() const { return !computed_all_ && (ReadyFrames() > given_ || input_finished_); }

EncoderStep StreamRecognizer::Next() {
  const int64_t factor = model_->config().encoder.subsampling.factor;
  const auto most = std::max<int64_t>(1, static_cast<int64_t>(kLongestStep_s / frame_s_) / chunk_) * chunk_ * factor;
  const int64_t ready = ReadyFrames(), end = std::min(ready, given_ + most);
  EncoderStep step{.final = input_finished_ && end == features_->NumFramesReady(), .state = &state_};
  if (end > given_) {
    const std::span<const float> frames = features_->GetFrames(given_, end);
    std::vector<float> chunk(frames.begin(), frames.end());
    model_->cmvn().Apply(chunk);
    const int64_t dim = model_->extractor()->dim();
    // The tensor owns its values: the state may keep views of them.
    step.features = at::from_blob(chunk.data(), {1, end - given_, dim}, at::kFloat).clone().to(model_->device());
    features_->DiscardBefore(end);
    given_ = end;
  }
  computed_all_ = step.final;
  return step;
}

double StreamRecognizer::TimeOf(double encoder_s) const {
  const double edge_s = static_cast<double>(edge_.size()) / model_->sample_rate();
  return std::clamp(begin_s_ + encoder_s - edge_s, begin_s_, received_s());
}

// Of the next frame.
void StreamRecognizer::AcceptGate(float gate) {
  quiet_ = gate < kSpeech ? quiet_ + 1 : 0;
  const auto edge = static_cast<int64_t>(model_->config().edge_padding_frames);
  const double start_s = begin_s_ + static_cast<double>(frames_ - edge) * frame_s_;
  if (frames_ < edge || start_s >= received_s()) return;  // of the padding
  if (update_.gate.empty()) update_.gate_start_s = start_s;
  update_.gate.push_back(gate);
}

// (1, V). What is silence and where a segment ends is asked of every frame, so that neither depends on how many are
// computed at a time.
void StreamRecognizer::AcceptFrame(const torch::Tensor& log_probs) {
  decoder_->Accept(log_probs);
  ++frames_;
  const int64_t silent = gated_ ? std::min(quiet_, decoder_->trailing_blanks()) : decoder_->trailing_blanks();
  const double now_s = TimeOf(static_cast<double>(frames_) * frame_s_);
  const bool speech = static_cast<double>(silent) * frame_s_ < kHangover_s && (speech_ || silent == 0);
  if (speech != speech_) {
    speech_since_s_ = speech ? now_s : std::max(0.0, now_s - static_cast<double>(silent) * frame_s_);
    speech_ = speech;
  }
  if (!endpoint_.Accept({.frames = 1, .silent_frames = silent, .spoke = !decoder_->words().empty()})) return;
  FinishSegment();
  endpoint_.Reset();
}

void StreamRecognizer::Accept(const CtcOutput& output) {
  const torch::Tensor log_probs = output.log_probs[0].to(at::kCPU, at::kFloat);  // (t, V)
  torch::Tensor gate;                                                            // (t)
  if (output.gate.defined()) gate = output.gate[0].to(at::kCPU, at::kFloat).contiguous();
  for (int64_t t = 0; t < log_probs.size(0); ++t) {
    if (gate.defined()) AcceptGate(gate.data_ptr<float>()[t]);
    AcceptFrame(log_probs.narrow(0, t, 1));
  }
  if (computed_all_) FinishSegment();
}

void StreamRecognizer::FinishSegment() {
  std::vector<Word> words = decoder_->Finish();
  if (words.empty()) return;
  Segment segment;
  for (Word& word : words) {
    word.start_s = TimeOf(word.start_s);
    word.end_s = TimeOf(word.end_s);
    if (!segment.text.empty()) segment.text += ' ';
    segment.text += word.text;
  }
  segment.start_s = words.front().start_s;
  segment.end_s = words.back().end_s;
  segment.words = std::move(words);
  update_.finals.push_back(std::move(segment));
}

StreamUpdate StreamRecognizer::TakeUpdate() {
  StreamUpdate update = std::exchange(update_, {});
  for (Word word : decoder_->words()) {
    word.start_s = TimeOf(word.start_s);
    word.end_s = TimeOf(word.end_s);
    update.words.push_back(std::move(word));
  }
  update.stable_words = decoder_->stable_words();
  update.received_s = received_s();
  update.recognized_s = computed_all_ ? received_s() : TimeOf(static_cast<double>(frames_) * frame_s_);
  update.speech = speech_;
  update.speech_since_s = speech_since_s_;
  return update;
}

}  // namespace earshot
