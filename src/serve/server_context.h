// What all connections of a server share.
//
//   context.connections.Add(connection);
//   const GaugeHold slot = context.TakeStreamSlot();      // false: all streams are taken
//
// Thread-safe. Lives until the last connection is gone.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "src/serve/access.h"
#include "src/serve/metrics.h"
#include "src/serve/server_options.h"
#include "src/serve/work_gate.h"
#include "src/stream/recognition_service.h"

namespace earshot {

// A connection that has something to finish before the server ends.
class DrainingConnection {
 public:
  virtual ~DrainingConnection() = default;
  // Called on any thread; returns at once.
  virtual void Drain() = 0;
};

class ConnectionList {
 public:
  void Add(const std::shared_ptr<DrainingConnection>& connection) {
    const std::lock_guard lock(mutex_);
    connections_[connection.get()] = connection;
  }
  void Remove(const DrainingConnection* connection) {
    const std::lock_guard lock(mutex_);
    connections_.erase(connection);
  }
  void DrainAll() {
    std::vector<std::shared_ptr<DrainingConnection>> all;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [pointer, connection] : connections_) {
        if (auto alive = connection.lock()) all.push_back(std::move(alive));
      }
    }
    for (const auto& connection : all) connection->Drain();
  }

 private:
  std::mutex mutex_;
  std::map<const DrainingConnection*, std::weak_ptr<DrainingConnection>> connections_;
};

struct ServerContext {
  ServerContext(const ServerOptions& server_options, RecognitionService& recognition_service, bool local_only)
      : options(server_options),
        service(recognition_service),
        access({.tokens = server_options.tokens,
                .allow_origins = server_options.allow_origins,
                .local_only = local_only}) {}

  const ServerOptions options;
  RecognitionService& service;
  const AccessPolicy access;
  ServerMetrics metrics;
  ConnectionList connections;
  WorkGate work_gate;

  GaugeHold TakeStreamSlot() {
    const int most = service.info().max_streams;
    return GaugeHold::UpTo(metrics.stream_slots, most > 0 ? most : std::numeric_limits<int64_t>::max());
  }
};

}  // namespace earshot
