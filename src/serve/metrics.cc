#include "src/serve/metrics.h"

#include <fmt/format.h>

namespace earshot {
namespace {

class Page {
 public:
  void Family(const char* name, const char* type, const char* help) {
    text_ += fmt::format("# HELP earshot_{0} {2}\n# TYPE earshot_{0} {1}\n", name, type, help);
  }
  template <class Value>
  void Sample(const std::string& name, Value value) {
    text_ += fmt::format("earshot_{} {}\n", name, value);
  }
  template <class Value>
  void One(const char* name, const char* type, const char* help, Value value) {
    Family(name, type, help);
    Sample(name, value);
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

void AddLatency(Page& page, const ServiceStats& stats) {
  page.Family("latency_seconds", "histogram", "From the arrival of a chunk's last sample to its words.");
  int64_t count = 0;
  for (size_t i = 0; i < std::size(ServiceStats::kLatencyBounds); ++i) {
    count += stats.latency_counts[i];
    page.Sample(fmt::format("latency_seconds_bucket{{le=\"{}\"}}", ServiceStats::kLatencyBounds[i]), count);
  }
  count += stats.latency_counts[std::size(ServiceStats::kLatencyBounds)];
  page.Sample("latency_seconds_bucket{le=\"+Inf\"}", count);
  page.Sample("latency_seconds_sum", stats.latency_s_total);
  page.Sample("latency_seconds_count", count);
}

}  // namespace

GaugeHold GaugeHold::UpTo(Gauge& gauge, int64_t limit) {
  int64_t now = gauge.now.load();
  while (now < limit) {
    if (!gauge.now.compare_exchange_weak(now, now + 1)) continue;
    ++gauge.total;
    GaugeHold hold;
    hold.gauge_ = &gauge;
    return hold;
  }
  return GaugeHold();
}

void ServerMetrics::CountResponse(int status) {
  const std::lock_guard lock(mutex_);
  ++responses_[status];
}

std::string ServerMetrics::Format(const ServiceStats& stats, const ServiceInfo& info) const {
  Page page;
  page.One("streams", "gauge", "Live streams that are open.", stats.streams);
  page.One("max_streams", "gauge", "Live streams that may be open.", info.max_streams);
  page.One("stream_slots", "gauge", "Connections that hold a place for a stream.", stream_slots.now.load());
  page.One("recordings", "gauge", "Recordings that are transcribed or wait.", stats.recordings);
  page.One("queue_seconds", "gauge", "Audio that waits for the network.", stats.queued_s);
  page.One("streams_total", "counter", "Live streams opened.", stats.streams_total);
  page.One("recordings_total", "counter", "Recordings taken.", stats.recordings_total);
  page.One("refused_total", "counter", "Streams and recordings refused because all places were taken.",
           stats.refused_total);
  page.One("failed_total", "counter", "Streams and recordings that failed.", stats.failed_total);
  page.One("audio_seconds_total", "counter", "Audio recognised.", stats.audio_s_total);
  page.One("compute_seconds_total", "counter", "The network's time for it.", stats.compute_s_total);
  page.One("real_time_factor", "gauge", "Compute seconds for each second of audio, since the start.",
           stats.audio_s_total > 0 ? stats.compute_s_total / stats.audio_s_total : 0.0);
  page.One("frames_total", "counter", "Encoder frames, those that were skipped among them.", stats.frames_total);
  page.One("frames_skipped_total", "counter", "Encoder frames that the gate left out.", stats.frames_skipped_total);
  AddLatency(page, stats);
  const std::pair<const char*, const Gauge*> kinds[] = {
      {"http", &http_connections}, {"websocket", &websocket_connections}, {"wyoming", &wyoming_connections}};
  page.Family("connections", "gauge", "Open connections.");
  for (const auto& [kind, gauge] : kinds)
    page.Sample(fmt::format("connections{{protocol=\"{}\"}}", kind), gauge->now.load());
  page.Family("connections_total", "counter", "Connections since the start.");
  for (const auto& [kind, gauge] : kinds)
    page.Sample(fmt::format("connections_total{{protocol=\"{}\"}}", kind), gauge->total.load());
  page.One("connections_refused_total", "counter", "Connections above the limit.", refused_connections.load());
  page.One("slow_readers_total", "counter", "Connections dropped because they did not read.", slow_readers.load());
  page.One("idle_closes_total", "counter", "Connections closed because nothing came.", idle_closes.load());
  page.One("draining", "gauge", "1: the server is about to end.", draining ? 1 : 0);
  page.Family("http_requests_total", "counter", "Answers by status; 101 are WebSockets.");
  const std::lock_guard lock(mutex_);
  for (const auto& [status, count] : responses_)
    page.Sample(fmt::format("http_requests_total{{code=\"{}\"}}", status), count);
  return page.Take();
}

}  // namespace earshot
