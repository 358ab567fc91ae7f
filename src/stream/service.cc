#include "src/stream/service.h"

#include <cmath>
#include <utility>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/work.h"
#include "src/stream/recording_queue.h"
#include "src/stream/stream_scheduler.h"

namespace earshot {
namespace {

// What people do not notice as waiting, and the model hears well with.
constexpr int kDefaultLatency_ms = 320;

class Service : public RecognitionService {
 public:
  Service(std::shared_ptr<const AsrModel> model, const ServiceOptions& options)
      : model_(std::move(model)), options_(options), streams_(model_, options), recordings_(model_, options) {
    info_ = {.model = options.name,
             .language = options.language,
             .sample_rate = model_->sample_rate(),
             .encoder_frame_s = model_->encoder_frame_s(),
             .default_latency_ms = options.latency.latency_ms,
             .max_streams = options.max_streams};
  }

  const ServiceInfo& info() const override { return info_; }

  std::unique_ptr<LiveStream> OpenStream(const StreamOptions& options, StreamListener listener) override {
    StreamRecognizerOptions o{
        .sample_rate = options.sample_rate, .decoder = options_.decoder, .endpoint = options_.endpoint};
    LatencyOptions latency = options_.latency;
    if (options.latency_ms != 0 && options.latency_ms != latency.latency_ms)
      latency = {.latency_ms = options.latency_ms, .left_context_ms = latency.left_context_ms};
    if (latency.latency_ms != 0) o.reach = ReachForLatency(*model_, latency);
    return streams_.Open(o, std::move(listener));
  }

  std::unique_ptr<RecordingJob> Transcribe(const std::string& path, RecordingListener listener) override {
    return recordings_.Add(path, std::move(listener));
  }

  ServiceStats Stats() const override {
    ServiceStats stats;
    streams_.AddStats(stats);
    recordings_.AddStats(stats);
    const Work work = WorkDone() - start_;
    stats.frames_total = work.frames;
    stats.frames_skipped_total = work.frames - work.block_frames / model_->config().encoder.num_layers;
    return stats;
  }

 private:
  const Work start_ = WorkDone();
  std::shared_ptr<const AsrModel> model_;
  ServiceOptions options_;
  ServiceInfo info_;
  StreamScheduler streams_;
  RecordingQueue recordings_;
};

}  // namespace

void ServiceOptions::Visit(OptionVisitor& v) {
  v.Field("name", name);
  v.Field("language", language);
  latency.Visit(v);
  v.Field("max_streams", max_streams);
  v.Field("recording_workers", recording_workers);
  v.Field("max_waiting_recordings", max_waiting_recordings);
  v.Field("threads", threads);
  v.Group("decoder", decoder);
  v.Group("endpoint", endpoint);
}

void ServiceOptions::Validate() const {
  latency.Validate();
  if (max_streams < 1) Throw("max_streams is {}, expected 1 or more", max_streams);
  if (recording_workers < 1) Throw("recording_workers is {}, expected 1 or more", recording_workers);
  if (max_waiting_recordings < 1) Throw("max_waiting_recordings is {}, expected 1 or more", max_waiting_recordings);
  if (threads < 0) Throw("threads is {}, expected 0 (all) or more", threads);
  decoder.Validate();
  endpoint.Validate();
}

std::unique_ptr<RecognitionService> MakeRecognitionService(std::shared_ptr<const AsrModel> model,
                                                           const ServiceOptions& options) {
  options.Validate();
  ServiceOptions o = options;
  const bool chunked = model->config().dynamic_chunk.probability > 0;
  // Full attention would have the whole stream wait for its end.
  const bool bounded = model->network().encoder().pattern().Bounded();
  if (o.latency.latency_ms == 0 && (chunked || !bounded)) o.latency.latency_ms = kDefaultLatency_ms;
  // Throws now what each stream would throw.
  if (const std::optional<Reach> reach = ReachIfGiven(*model, o.latency))
    model->network().encoder().StartStream(&*reach);
  return std::make_unique<Service>(std::move(model), o);
}

}  // namespace earshot
