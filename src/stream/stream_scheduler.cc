#include "src/stream/stream_scheduler.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <functional>
#include <iterator>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/first_line.h"
#include "src/base/log.h"
#include "src/stream/own_threads.h"

namespace earshot {
namespace {

using Clock = std::chrono::steady_clock;

// Streams that are stepped together: more would only let the first wait.
constexpr size_t kMostTogether = 64;

enum class ItemKind { kSamples, kCommit, kClear, kEnd };

struct Item {
  ItemKind kind = ItemKind::kSamples;
  std::vector<float> samples;
  double seconds = 0;  // of the samples
  Clock::time_point arrival;
};

// What a stream's handle and the scheduler share.
struct Shared {
  std::mutex mutex;
  std::deque<Item> items;  // not taken yet
  double queued_s = 0;     // of what could be computed and was not: what waits for a chunk or looks ahead is none
  bool closed = false;     // the handle is gone
  bool counted = true;     // among the streams that are open; the scheduler's mutex guards it
};

// A stream as the scheduler's thread sees it.
struct Running {
  std::shared_ptr<Shared> shared;
  RecognitionService::StreamListener listener;
  std::unique_ptr<StreamRecognizer> recognizer;
  std::deque<Item> items;
  bool committing = false, ending = false;
  bool changed = false;  // there is something to tell
  bool done = false;
  double recognized_s = 0;    // of the last update
  Clock::time_point arrival;  // of the last samples fed
  EncoderStep step;
  CtcOutput output;  // of that step
};

}  // namespace

class StreamScheduler::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::shared_ptr<const AsrModel> model, const ServiceOptions& options)
      : model_(std::move(model)), options_(options) {}

  void Start() {
    thread_ = std::thread([self = shared_from_this()] { self->Loop(); });
  }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    // A listener on this very thread may have let go of the service.
    if (thread_.get_id() == std::this_thread::get_id()) {
      thread_.detach();
    } else if (thread_.joinable()) {
      thread_.join();
    }
  }

  std::shared_ptr<Shared> Open(const StreamRecognizerOptions& options, RecognitionService::StreamListener listener) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || open_ >= options_.max_streams) {
        ++stats_.refused_total;
        return nullptr;
      }
      ++open_;
      ++stats_.streams_total;
    }
    auto running = std::make_unique<Running>();
    running->shared = std::make_shared<Shared>();
    running->listener = std::move(listener);
    try {
      running->recognizer = std::make_unique<StreamRecognizer>(model_, options);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      --open_;
      throw;
    }
    std::shared_ptr<Shared> shared = running->shared;
    const std::lock_guard lock(mutex_);
    fresh_.push_back(std::move(running));
    return shared;
  }

  // A stream makes room for another one as soon as its handle is gone, or it has ended.
  void Leave(Shared& shared) {
    const std::lock_guard lock(mutex_);
    if (std::exchange(shared.counted, false)) --open_;
  }

  void Wake() {
    {
      const std::lock_guard lock(mutex_);
      work_ = true;
    }
    wake_.notify_one();
  }

  void AddStats(ServiceStats& stats) const {
    const std::lock_guard lock(mutex_);
    stats.streams += open_;
    stats.streams_total += stats_.streams_total;
    stats.refused_total += stats_.refused_total;
    stats.failed_total += stats_.failed_total;
    stats.queued_s += stats_.queued_s;
    stats.audio_s_total += stats_.audio_s_total;
    stats.compute_s_total += stats_.compute_s_total;
    stats.latency_s_total += stats_.latency_s_total;
    for (size_t i = 0; i < std::size(stats.latency_counts); ++i) stats.latency_counts[i] += stats_.latency_counts[i];
  }

 private:
  void Loop() {
    if (options_.threads > 0) SetOwnThreads(options_.threads);
    std::vector<std::unique_ptr<Running>> streams;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || work_; });
        if (stopping_) return;
        work_ = false;
        std::move(fresh_.begin(), fresh_.end(), std::back_inserter(streams));
        fresh_.clear();
      }
      while (Round(streams)) {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        std::move(fresh_.begin(), fresh_.end(), std::back_inserter(streams));
        fresh_.clear();
      }
    }
  }

  // One step of each stream that has one. Whether there was any.
  bool Round(std::vector<std::unique_ptr<Running>>& streams) {
    for (const auto& stream : streams) TakeItems(*stream);
    Forget(streams);
    std::vector<Running*> busy;
    for (const auto& stream : streams) {
      if (!stream->items.empty() || stream->recognizer->Ready()) busy.push_back(stream.get());
    }
    if (busy.empty()) return false;
    // The longest waiting go first.
    std::stable_sort(busy.begin(), busy.end(), [](auto* a, auto* b) { return a->arrival < b->arrival; });
    if (busy.size() > kMostTogether) busy.resize(kMostTogether);
    const Clock::time_point start = Clock::now();
    ForEach(busy, [](Running& stream) { Feed(stream); });
    std::vector<Running*> ready;
    for (Running* stream : busy) {
      if (!stream->done && stream->recognizer->Ready()) ready.push_back(stream);
    }
    if (!ready.empty()) Step(ready);
    const double compute_s = std::chrono::duration<double>(Clock::now() - start).count();
    for (Running* stream : busy) {
      CountQueued(*stream);
      Tell(*stream, compute_s / static_cast<double>(busy.size()));
    }
    Forget(streams);
    double queued_s = 0;
    for (const auto& stream : streams) {
      const std::lock_guard lock(stream->shared->mutex);
      queued_s += stream->shared->queued_s;
    }
    const std::lock_guard lock(mutex_);
    stats_.queued_s = queued_s;
    return true;
  }

  static void TakeItems(Running& stream) {
    const std::lock_guard lock(stream.shared->mutex);
    if (stream.shared->closed) stream.done = true;
    std::move(stream.shared->items.begin(), stream.shared->items.end(), std::back_inserter(stream.items));
    stream.shared->items.clear();
  }

  static void CountQueued(const Running& stream) {
    const auto seconds = [](const std::deque<Item>& items) {
      return std::accumulate(items.begin(), items.end(), 0.0,
                             [](double sum, const Item& item) { return sum + item.seconds; });
    };
    const double here_s = stream.done ? 0 : std::max(0.0, stream.recognizer->ready_s()) + seconds(stream.items);
    const std::lock_guard lock(stream.shared->mutex);
    stream.shared->queued_s = here_s + seconds(stream.shared->items);
  }

  void Forget(std::vector<std::unique_ptr<Running>>& streams) {
    for (const auto& stream : streams) {
      if (stream->done) Leave(*stream->shared);
    }
    std::erase_if(streams, [](const auto& stream) { return stream->done; });
  }

  // Side by side, each on one core.
  template <class F>
  void ForEach(const std::vector<Running*>& streams, F f) {
    at::parallel_for(0, static_cast<int64_t>(streams.size()), 1, [&](int64_t begin, int64_t end) {
      const c10::InferenceMode inference;
      for (int64_t i = begin; i < end; ++i) {
        Running& stream = *streams[static_cast<size_t>(i)];
        try {
          f(stream);
        } catch (const std::exception& e) {
          Fail(stream, e);
        }
      }
    });
  }

  // What waits goes in, as far as something becomes ready or has to be answered.
  static void Feed(Running& stream) {
    StreamRecognizer& recognizer = *stream.recognizer;
    while (!stream.items.empty() && !recognizer.Ready() && !stream.committing && !stream.ending) {
      Item item = std::move(stream.items.front());
      stream.items.pop_front();
      switch (item.kind) {
        case ItemKind::kSamples:
          recognizer.AcceptWaveform(item.samples);
          stream.arrival = item.arrival;
          break;
        case ItemKind::kClear:
          recognizer.Clear();
          stream.recognized_s = 0;
          break;
        case ItemKind::kCommit:
        case ItemKind::kEnd:
          (item.kind == ItemKind::kEnd ? stream.ending : stream.committing) = true;
          recognizer.InputFinished();
          stream.arrival = item.arrival;
          stream.changed = true;
          break;
      }
    }
  }

  void Step(const std::vector<Running*>& ready) {
    ForEach(ready, [](Running& stream) { stream.step = stream.recognizer->Next(); });
    std::vector<Running*> streams;
    std::vector<EncoderStep> steps;
    for (Running* stream : ready) {
      if (stream->done) continue;
      streams.push_back(stream);
      steps.push_back(stream->step);
    }
    if (steps.empty()) return;
    std::vector<CtcOutput> outputs;
    try {
      const c10::InferenceMode inference;
      outputs = model_->network().StreamBatch(steps);
    } catch (const std::exception& e) {
      for (Running* stream : streams) Fail(*stream, e);
      return;
    }
    for (size_t i = 0; i < streams.size(); ++i) streams[i]->output = std::move(outputs[i]);
    ForEach(streams, [](Running& stream) {
      stream.recognizer->Accept(std::exchange(stream.output, {}));
      stream.changed = true;
    });
  }

  // Only values of this stream: streams fail side by side.
  static void Fail(Running& stream, const std::exception& e) {
    LogWarning("a stream failed: {}", e.what());
    StreamUpdate update;
    update.finished = true;
    update.error = FirstLine(e);
    stream.done = true;
    stream.changed = false;
    if (!Closed(stream)) stream.listener(std::move(update));
  }

  static bool Closed(const Running& stream) {
    const std::lock_guard lock(stream.shared->mutex);
    return stream.shared->closed;
  }

  void Tell(Running& stream, double compute_s) {
    if (stream.done) {
      const std::lock_guard lock(mutex_);
      ++stats_.failed_total;
      return;
    }
    if (!stream.changed) return;
    stream.changed = false;
    StreamRecognizer& recognizer = *stream.recognizer;
    StreamUpdate update = recognizer.TakeUpdate();
    if (recognizer.finished()) {
      update.finished = stream.ending;
      update.committed = stream.committing;
      stream.done = stream.ending;
      if (stream.committing) recognizer.Restart();
      stream.committing = false;
    }
    const double advanced_s = std::max(0.0, update.recognized_s - stream.recognized_s);
    stream.recognized_s = update.recognized_s;
    const double latency_s = std::chrono::duration<double>(Clock::now() - stream.arrival).count();
    {
      const std::lock_guard lock(stream.shared->mutex);
      if (stream.shared->closed) return;
    }
    {
      const std::lock_guard lock(mutex_);
      stats_.compute_s_total += compute_s;
      stats_.audio_s_total += advanced_s;
      if (advanced_s > 0) {
        const auto* bound = std::lower_bound(std::begin(ServiceStats::kLatencyBounds),
                                             std::end(ServiceStats::kLatencyBounds), latency_s);
        ++stats_.latency_counts[bound - std::begin(ServiceStats::kLatencyBounds)];
        stats_.latency_s_total += latency_s;
      }
    }
    stream.listener(std::move(update));
  }

  std::shared_ptr<const AsrModel> model_;
  ServiceOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false, work_ = false;
  int open_ = 0;
  ServiceStats stats_;
  std::vector<std::unique_ptr<Running>> fresh_;
  std::thread thread_;
};

namespace {

class Handle : public LiveStream {
 public:
  Handle(std::shared_ptr<Shared> shared, std::function<void()> wake, std::function<void(Shared&)> leave,
         double sample_rate)
      : shared_(std::move(shared)), wake_(std::move(wake)), leave_(std::move(leave)), sample_rate_(sample_rate) {}
  ~Handle() override {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->closed = true;
      shared_->items.clear();
    }
    leave_(*shared_);
    wake_();
  }

  void AcceptWaveform(std::span<const float> samples) override {
    if (samples.empty()) return;
    Item item{.samples = {samples.begin(), samples.end()}};
    for (float& sample : item.samples) {
      if (!std::isfinite(sample)) sample = 0;
    }
    item.seconds = static_cast<double>(samples.size()) / sample_rate_;
    Put(std::move(item));
  }
  double queued_s() const override {
    const std::lock_guard lock(shared_->mutex);
    return shared_->queued_s;
  }
  void Commit() override { Put({.kind = ItemKind::kCommit}); }
  void Clear() override {
    {
      // What was not taken yet need not be computed.
      const std::lock_guard lock(shared_->mutex);
      const auto samples = [](const Item& item) { return item.kind == ItemKind::kSamples; };
      shared_->items.erase(std::remove_if(shared_->items.begin(), shared_->items.end(), samples), shared_->items.end());
      shared_->queued_s = 0;
    }
    Put({.kind = ItemKind::kClear});
  }
  void InputFinished() override { Put({.kind = ItemKind::kEnd}); }

 private:
  void Put(Item item) {
    item.arrival = Clock::now();
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->queued_s += item.seconds;
      shared_->items.push_back(std::move(item));
    }
    wake_();
  }

  std::shared_ptr<Shared> shared_;
  std::function<void()> wake_;
  std::function<void(Shared&)> leave_;
  double sample_rate_;
};

}  // namespace

StreamScheduler::StreamScheduler(std::shared_ptr<const AsrModel> model, const ServiceOptions& options)
    : impl_(std::make_shared<Impl>(std::move(model), options)) {
  impl_->Start();
}

StreamScheduler::~StreamScheduler() { impl_->Stop(); }

std::unique_ptr<LiveStream> StreamScheduler::Open(const StreamRecognizerOptions& options,
                                                  RecognitionService::StreamListener listener) {
  std::shared_ptr<Shared> shared = impl_->Open(options, std::move(listener));
  if (!shared) return nullptr;
  return std::make_unique<Handle>(
      std::move(shared), [impl = impl_] { impl->Wake(); }, [impl = impl_](Shared& left) { impl->Leave(left); },
      options.sample_rate);
}

void StreamScheduler::AddStats(ServiceStats& stats) const { impl_->AddStats(stats); }

}  // namespace earshot
