// Threads that transcribe recordings, one after the other each.
//
//   RecordingQueue queue(model, options);
//   std::unique_ptr<RecordingJob> job = queue.Add("talk.mp3", listener);   // nullptr: too many wait
//
// Thread-safe; see recognition_service.h for what listeners may do.
#pragma once

#include <memory>
#include <string>

#include "src/stream/recognition_service.h"
#include "src/stream/service.h"

namespace earshot {

class RecordingQueue {
 public:
  RecordingQueue(std::shared_ptr<const AsrModel> model, const ServiceOptions& options);
  ~RecordingQueue();
  RecordingQueue(const RecordingQueue&) = delete;
  RecordingQueue& operator=(const RecordingQueue&) = delete;

  std::unique_ptr<RecordingJob> Add(const std::string& path, RecognitionService::RecordingListener listener);
  void AddStats(ServiceStats& stats) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace earshot
