// The thread that computes live streams: whatever has a chunk ready goes through the network together.
//
//   StreamScheduler scheduler(model, options);
//   std::unique_ptr<LiveStream> stream = scheduler.Open(recognizer_options, listener);   // nullptr: too many
//
// See recognition_service.h for what listeners may do. Thread-safe.
#pragma once

#include <memory>

#include "src/stream/recognition_service.h"
#include "src/stream/service.h"
#include "src/stream/stream_recognizer.h"

namespace earshot {

class StreamScheduler {
 public:
  StreamScheduler(std::shared_ptr<const AsrModel> model, const ServiceOptions& options);
  ~StreamScheduler();
  StreamScheduler(const StreamScheduler&) = delete;
  StreamScheduler& operator=(const StreamScheduler&) = delete;

  std::unique_ptr<LiveStream> Open(const StreamRecognizerOptions& options, RecognitionService::StreamListener listener);
  // What streams have to say of themselves: adds to stats.
  void AddStats(ServiceStats& stats) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with the streams' handles
};

}  // namespace earshot
