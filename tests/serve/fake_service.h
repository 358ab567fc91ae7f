// A recogniser without a model, whose answers can be told beforehand: each whole second of sound is a word.
//
//   FakeService service({.max_streams = 2});
//   Server server({.port = 0}, service);
//
// The second that begins at n s gives the word "wn" at [n + 0.2, n + 0.8], stable once the next second has begun. A
// second of silence closes the segment. A recording is read as s16le at 16 kHz; one that begins with "BAD" fails. Work
// is done on one thread, in chunks of 0.1 s; hold_ = true stops it. Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "src/stream/recognition_service.h"

namespace earshot {

struct FakeServiceOptions {
  int max_streams = 8;
  int max_recordings = 4;
};

class FakeService : public RecognitionService {
 public:
  explicit FakeService(const FakeServiceOptions& options = {});
  ~FakeService() override;

  const ServiceInfo& info() const override { return info_; }
  std::unique_ptr<LiveStream> OpenStream(const StreamOptions& options, StreamListener listener) override;
  std::unique_ptr<RecordingJob> Transcribe(const std::string& path, RecordingListener listener) override;
  ServiceStats Stats() const override;

  // true: nothing is computed until it is false again.
  void Hold(bool hold);
  std::vector<std::string> paths() const;  // of all recordings
  double max_queued_s() const;             // the most that ever waited in a stream

 private:
  class Stream;
  class Job;
  class State;
  std::shared_ptr<State> state_;
  FakeServiceOptions options_;
  ServiceInfo info_;
  std::thread thread_;
};

// count words as FakeService gives them from a second on: "w0 w1 w2".
std::string FakeWords(int count, int from = 0);

}  // namespace earshot
