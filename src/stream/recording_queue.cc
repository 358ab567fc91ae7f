#include "src/stream/recording_queue.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"
#include "src/base/first_line.h"
#include "src/base/log.h"
#include "src/stream/own_threads.h"
#include "src/stream/transcriber.h"

namespace earshot {
namespace {

using Clock = std::chrono::steady_clock;

struct Job {
  std::string path;
  RecognitionService::RecordingListener listener;
  std::atomic<bool> cancelled{false};
};

// Nobody waits for the rest.
struct Cancelled {};

}  // namespace

class RecordingQueue::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::shared_ptr<const AsrModel> model, const ServiceOptions& options)
      : transcriber_(std::move(model)), options_(options) {}

  void Start() {
    for (int w = 0; w < options_.recording_workers; ++w)
      threads_.emplace_back([self = shared_from_this()] { self->Loop(); });
  }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) {
      // A listener on that very thread may have let go of the service.
      if (thread.get_id() == std::this_thread::get_id()) {
        thread.detach();
      } else {
        thread.join();
      }
    }
    threads_.clear();
  }

  std::shared_ptr<Job> Add(const std::string& path, RecognitionService::RecordingListener listener) {
    auto job = std::make_shared<Job>();
    job->path = path;
    job->listener = std::move(listener);
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(waiting_, [](const auto& other) { return other->cancelled.load(); });
      if (stopping_ || static_cast<int>(waiting_.size()) >= options_.max_waiting_recordings) {
        ++stats_.refused_total;
        return nullptr;
      }
      ++stats_.recordings_total;
      waiting_.push_back(job);
    }
    wake_.notify_one();
    return job;
  }

  void AddStats(ServiceStats& stats) const {
    const std::lock_guard lock(mutex_);
    stats.recordings += running_ + static_cast<int64_t>(waiting_.size());
    stats.recordings_total += stats_.recordings_total;
    stats.refused_total += stats_.refused_total;
    stats.failed_total += stats_.failed_total;
    stats.audio_s_total += stats_.audio_s_total;
    stats.compute_s_total += stats_.compute_s_total;
  }

 private:
  void Loop() {
    SetOwnThreads(1);
    while (true) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (stopping_) return;
        job = std::move(waiting_.front());
        waiting_.pop_front();
        ++running_;
      }
      const Clock::time_point start = Clock::now();
      const double audio_s = job->cancelled ? 0 : Run(*job);
      const std::lock_guard lock(mutex_);
      --running_;
      stats_.audio_s_total += audio_s;
      stats_.compute_s_total += std::chrono::duration<double>(Clock::now() - start).count();
    }
  }

  // Returns the seconds of the recording.
  double Run(Job& job) {
    RecordingUpdate last{.finished = true};
    try {
      const auto reader =
          AudioReader::Open(job.path, {.sample_rate = transcriber_.sample_rate(), .allow_damaged = true});
      const double duration_s = reader->duration_s();
      RecordingUpdate update{.duration_s = duration_s};
      TranscribeCallbacks callbacks;
      callbacks.segment = [&](const Segment& segment) { update.segments.push_back(segment); };
      callbacks.progress = [&](double done_s) {
        if (job.cancelled || Stopping()) throw Cancelled();
        update.done_s = done_s;
        job.listener(std::exchange(update, {.duration_s = duration_s}));
      };
      const Transcript transcript = transcriber_.Transcribe(*reader, callbacks);
      last.segments = std::move(update.segments);
      last.done_s = last.duration_s = transcript.duration_s;
    } catch (const Cancelled&) {
      return 0;
    } catch (const std::exception& e) {
      last.error = FirstLine(e);
      const std::lock_guard lock(mutex_);
      ++stats_.failed_total;
    }
    if (!job.cancelled) job.listener(last);
    return last.duration_s;
  }

  bool Stopping() const {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }

  Transcriber transcriber_;
  ServiceOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<std::shared_ptr<Job>> waiting_;
  int64_t running_ = 0;
  ServiceStats stats_;
  std::vector<std::thread> threads_;
};

namespace {

class Handle : public RecordingJob {
 public:
  explicit Handle(std::shared_ptr<Job> job) : job_(std::move(job)) {}
  ~Handle() override { job_->cancelled = true; }

 private:
  std::shared_ptr<Job> job_;
};

}  // namespace

RecordingQueue::RecordingQueue(std::shared_ptr<const AsrModel> model, const ServiceOptions& options)
    : impl_(std::make_shared<Impl>(std::move(model), options)) {
  impl_->Start();
}

RecordingQueue::~RecordingQueue() { impl_->Stop(); }

std::unique_ptr<RecordingJob> RecordingQueue::Add(const std::string& path,
                                                  RecognitionService::RecordingListener listener) {
  std::shared_ptr<Job> job = impl_->Add(path, std::move(listener));
  return job ? std::make_unique<Handle>(std::move(job)) : nullptr;
}

void RecordingQueue::AddStats(ServiceStats& stats) const { impl_->AddStats(stats); }

}  // namespace earshot
