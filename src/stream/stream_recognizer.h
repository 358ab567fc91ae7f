// One live stream: samples go in as they come, words and endpoints come out. The network stands between: several
// streams are stepped together (CtcNetwork::StreamBatch), so this class says what is to be computed and takes the
// result.
//
//   StreamRecognizer recognizer(model, {.sample_rate = 48000, .reach = reach});
//   recognizer.AcceptWaveform(samples);
//   while (recognizer.Ready()) {
//     EncoderStep step = recognizer.Next();
//     recognizer.Accept(model->network().StreamBatch({step}).front());
//   }
//   StreamUpdate update = recognizer.TakeUpdate();
//
// The words do not depend on how the samples were cut, nor on what is computed beside them. State is bounded when the
// reach's pattern is. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/audio/resampler.h"
#include "src/decode/endpoint.h"
#include "src/decode/stream_decoder.h"
#include "src/frontend/online_features.h"
#include "src/model/asr_model.h"
#include "src/stream/recognition_service.h"

namespace earshot {

struct StreamRecognizerOptions {
  // Hz of what AcceptWaveform gets.
  double sample_rate = 16000;
  // How far the encoder looks. nullopt: as the model's pattern says.
  std::optional<Reach> reach;
  DecoderOptions decoder;
  EndpointOptions endpoint;
};

class StreamRecognizer {
 public:
  // Throws Error for options that do not suit the model.
  StreamRecognizer(std::shared_ptr<const AsrModel> model, const StreamRecognizerOptions& options);

  // samples: (S) in [-1, 1].
  void AcceptWaveform(std::span<const float> samples);
  // What is left becomes ready, and the last words final.
  void InputFinished();
  // After the last Accept behind InputFinished: begins anew, times go on.
  void Restart();
  // Forgets all that is not final; times begin at 0.
  void Clear();

  // Whether a chunk is complete, or, behind InputFinished, there is still something to compute.
  bool Ready() const;
  // Features of whole chunks, at most some seconds of them. Every Next is followed by its Accept.
  EncoderStep Next();
  void Accept(const CtcOutput& output);

  // What happened since the last call.
  StreamUpdate TakeUpdate();
  // Whether everything that came before InputFinished is final.
  bool finished() const { return input_finished_ && computed_all_; }
  double received_s() const;
  // Seconds that Next would give to the network now. What waits for a whole chunk is not among them.
  double ready_s() const;

 private:
  void Begin();
  void Feed(std::span<const float> samples);  // at the model's rate
  int64_t ReadyFrames() const;                // features up to the end of the last whole chunk
  void AcceptGate(float gate);
  void AcceptFrame(const torch::Tensor& log_probs);
  void FinishSegment();
  double TimeOf(double encoder_s) const;

  std::shared_ptr<const AsrModel> model_;
  StreamRecognizerOptions options_;
  std::vector<float> edge_;
  int64_t chunk_ = 1;  // encoder frames that are computed at a time
  int64_t right_ = 0;  // its right context
  double frame_s_ = 0;
  bool gated_ = false;

  std::unique_ptr<Resampler> resampler_;
  std::unique_ptr<OnlineFeatures> features_;
  EncoderState state_;
  std::unique_ptr<StreamDecoder> decoder_;
  EndpointDetector endpoint_;
  bool input_finished_ = false, computed_all_ = false;
  int64_t given_ = 0;    // features given to the network
  int64_t frames_ = 0;   // encoder frames that came back
  int64_t quiet_ = 0;    // frames with a low gate at the end
  double begin_s_ = 0;   // where this run begins in the stream
  int64_t samples_ = 0;  // received since, at options_.sample_rate
  StreamUpdate update_;  // what is new
  bool speech_ = false;
  double speech_since_s_ = 0;
};

}  // namespace earshot
