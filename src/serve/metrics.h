// What the server counts, and the text that Prometheus reads of it at /metrics.
//
//   metrics.CountResponse(200);
//   const GaugeHold hold(metrics.http_connections);        // counts as long as it lives
//   std::string text = metrics.Format(service.Stats(), service.info());
//
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "src/stream/recognition_service.h"

namespace earshot {

struct Gauge {
  std::atomic<int64_t> now{0}, total{0};
};

// One more, as long as this lives.
class GaugeHold {
 public:
  GaugeHold() = default;
  explicit GaugeHold(Gauge& gauge) : gauge_(&gauge) {
    ++gauge.now;
    ++gauge.total;
  }
  // Empty where limit are there already.
  static GaugeHold UpTo(Gauge& gauge, int64_t limit);
  GaugeHold(GaugeHold&& other) noexcept : gauge_(std::exchange(other.gauge_, nullptr)) {}
  GaugeHold& operator=(GaugeHold&& other) noexcept {
    std::swap(gauge_, other.gauge_);
    return *this;
  }
  ~GaugeHold() { Release(); }
  void Release() {
    if (gauge_) --gauge_->now;
    gauge_ = nullptr;
  }
  explicit operator bool() const { return gauge_ != nullptr; }

 private:
  Gauge* gauge_ = nullptr;
};

class ServerMetrics {
 public:
  // Open sockets: of HTTP, those that became WebSockets, Wyoming.
  Gauge http_connections, websocket_connections, wyoming_connections;
  // Places of max_streams that are taken by WebSockets and Wyoming audio.
  Gauge stream_slots;
  // What a drain waits for: streams, and requests that are being answered.
  Gauge work;
  std::atomic<int64_t> refused_connections{0}, slow_readers{0}, idle_closes{0};
  std::atomic<bool> draining{false};

  void CountResponse(int status);
  // The text format, version 0.0.4.
  std::string Format(const ServiceStats& stats, const ServiceInfo& info) const;

 private:
  mutable std::mutex mutex_;
  std::map<int, int64_t> responses_;
};

}  // namespace earshot
