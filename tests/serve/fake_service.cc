#include "tests/serve/fake_service.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr double kChunk = 0.1;

// What was heard so far, a second after the other.
class Recogniser {
 public:
  explicit Recogniser(double rate) : rate_(rate) {}

  void Accept(float sample, StreamUpdate& update) {
    if (!std::isfinite(sample)) sample = 0;
    loudness_ += std::fabs(sample);
    ++samples_;
    if (static_cast<double>(samples_ - second_ * static_cast<int64_t>(rate_)) >= rate_) EndSecond(update);
  }

  void EndSecond(StreamUpdate& update) {
    const bool loud = loudness_ / rate_ > 0.01;
    const double start_s = static_cast<double>(second_);
    if (loud)
      words_.push_back({"w" + std::to_string(second_), start_s + 0.2, start_s + 0.8, 0.9f});
    else
      Flush(update);
    if (loud && !speech_) speech_since_s_ = start_s;
    speech_ = loud;
    loudness_ = 0;
    ++second_;
  }

  void Flush(StreamUpdate& update) {
    if (words_.empty()) return;
    Segment segment{.start_s = words_.front().start_s, .end_s = words_.back().end_s, .words = std::move(words_)};
    for (const Word& word : segment.words) segment.text += (segment.text.empty() ? "" : " ") + word.text;
    update.finals.push_back(std::move(segment));
    words_.clear();
  }

  void Fill(StreamUpdate& update) const {
    update.words = words_;
    update.stable_words = words_.empty() ? 0 : words_.size() - 1;
    update.speech = speech_;
    update.speech_since_s = speech_since_s_;
    update.recognized_s = seconds();
    update.gate = {speech_ ? 1.0f : 0.1f};
    update.gate_start_s = update.recognized_s;
  }

  double seconds() const { return static_cast<double>(samples_) / rate_; }

 private:
  double rate_;
  int64_t samples_ = 0, second_ = 0;
  double loudness_ = 0, speech_since_s_ = 0;
  bool speech_ = false;
  std::vector<Word> words_;
};

}  // namespace

// What the worker and the handles share; handles may outlive the service's calls.
class FakeService::State {
 public:
  std::mutex mutex;
  std::condition_variable condition;
  bool stopped = false, hold = false;
  std::deque<std::function<void()>> tasks;  // of the worker; each locks for itself
  ServiceStats stats;
  std::atomic<double> max_queued_s{0};
  std::vector<std::string> paths;

  void Add(std::function<void()> task) {
    const std::lock_guard lock(mutex);
    tasks.push_back(std::move(task));
    condition.notify_all();
  }

  void Run() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex);
        condition.wait(lock, [&] { return stopped || (!hold && !tasks.empty()); });
        if (stopped) return;
        task = std::move(tasks.front());
        tasks.pop_front();
      }
      task();
    }
  }
};

class FakeService::Stream : public LiveStream {
 public:
  Stream(std::shared_ptr<State> state, double rate, StreamListener listener) : state_(std::move(state)) {
    work_ = std::make_shared<Work>(rate);
    work_->listener = std::move(listener);
  }
  ~Stream() override {
    work_->dropped = true;
    const std::lock_guard lock(state_->mutex);
    --state_->stats.streams;
  }

  void AcceptWaveform(std::span<const float> samples) override {
    const double seconds = static_cast<double>(samples.size()) / work_->rate;
    work_->queued_s += seconds;
    if (work_->queued_s > state_->max_queued_s) state_->max_queued_s = work_->queued_s.load();
    received_s_ += seconds;
    const size_t chunk = static_cast<size_t>(kChunk * work_->rate);
    for (size_t at = 0; at < samples.size(); at += chunk) {
      const auto part = samples.subspan(at, std::min(chunk, samples.size() - at));
      Do([samples = std::vector<float>(part.begin(), part.end()), received_s = received_s_](Work& work) {
        StreamUpdate update;
        for (const float sample : samples) work.recogniser.Accept(sample, update);
        work.queued_s -= static_cast<double>(samples.size()) / work.rate;
        update.received_s = received_s;
        work.Tell(std::move(update));
      });
    }
  }
  double queued_s() const override { return work_->queued_s; }
  void Commit() override { Flush(true, false); }
  void Clear() override {
    Do([](Work& work) { work.recogniser = Recogniser(work.rate); });
  }
  void InputFinished() override { Flush(false, true); }

 private:
  struct Work {
    explicit Work(double hz) : rate(hz), recogniser(hz) {}
    const double rate;
    Recogniser recogniser;
    StreamListener listener;
    std::atomic<double> queued_s{0};
    std::atomic<bool> dropped{false};
    void Tell(StreamUpdate update) {
      recogniser.Fill(update);
      if (!dropped) listener(std::move(update));
    }
  };

  void Flush(bool committed, bool finished) {
    Do([committed, finished, received_s = received_s_](Work& work) {
      StreamUpdate update;
      work.recogniser.Flush(update);
      update.received_s = received_s;
      update.committed = committed;
      update.finished = finished;
      work.Tell(std::move(update));
    });
  }

  void Do(std::function<void(Work&)> task) {
    state_->Add([work = work_, task = std::move(task)] {
      if (!work->dropped) task(*work);
    });
  }

  std::shared_ptr<State> state_;
  std::shared_ptr<Work> work_;
  double received_s_ = 0;
};

class FakeService::Job : public RecordingJob {
 public:
  explicit Job(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~Job() override {
    *dropped = true;
    const std::lock_guard lock(state_->mutex);
    --state_->stats.recordings;
  }
  std::shared_ptr<std::atomic<bool>> dropped = std::make_shared<std::atomic<bool>>(false);

 private:
  std::shared_ptr<State> state_;
};

FakeService::FakeService(const FakeServiceOptions& options) : state_(std::make_shared<State>()), options_(options) {
  info_ = {.model = "fake", .language = "en", .default_latency_ms = 320, .max_streams = options.max_streams};
  thread_ = std::thread([state = state_] { state->Run(); });
}

FakeService::~FakeService() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
    state_->condition.notify_all();
  }
  thread_.join();
}

std::unique_ptr<LiveStream> FakeService::OpenStream(const StreamOptions& options, StreamListener listener) {
  if (!(options.sample_rate >= 4000 && options.sample_rate <= 192000))
    Throw("sample_rate: {} Hz, expected 4000 to 192000", options.sample_rate);
  const std::lock_guard lock(state_->mutex);
  if (state_->stats.streams >= options_.max_streams) return nullptr;
  ++state_->stats.streams;
  ++state_->stats.streams_total;
  return std::make_unique<Stream>(state_, options.sample_rate, std::move(listener));
}

std::unique_ptr<RecordingJob> FakeService::Transcribe(const std::string& path, RecordingListener listener) {
  auto job = [&]() -> std::unique_ptr<Job> {
    const std::lock_guard lock(state_->mutex);
    if (state_->stats.recordings >= options_.max_recordings) return nullptr;
    ++state_->stats.recordings;
    state_->paths.push_back(path);
    return std::make_unique<Job>(state_);
  }();
  if (!job) return nullptr;
  state_->Add([path, dropped = job->dropped, listener = std::move(listener)] {
    if (*dropped) return;
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    if (bytes.starts_with("BAD")) return listener({.finished = true, .error = "no audio in it"});
    StreamUpdate heard;
    Recogniser recogniser(16000);
    for (size_t i = 0; i + 2 <= bytes.size(); i += 2) {
      int16_t sample;
      std::memcpy(&sample, bytes.data() + i, 2);
      recogniser.Accept(static_cast<float>(sample) / 32768, heard);
    }
    recogniser.Flush(heard);
    // Each segment in an update of its own, and the end in the last.
    for (Segment& segment : heard.finals) {
      if (!*dropped) listener({.segments = {std::move(segment)}, .done_s = 1, .duration_s = recogniser.seconds()});
    }
    if (!*dropped) listener({.done_s = recogniser.seconds(), .duration_s = recogniser.seconds(), .finished = true});
  });
  return job;
}

ServiceStats FakeService::Stats() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stats;
}

void FakeService::Hold(bool hold) {
  const std::lock_guard lock(state_->mutex);
  state_->hold = hold;
  state_->condition.notify_all();
}

std::vector<std::string> FakeService::paths() const {
  const std::lock_guard lock(state_->mutex);
  return state_->paths;
}

double FakeService::max_queued_s() const { return state_->max_queued_s; }

std::string FakeWords(int count, int from) {
  std::string text;
  for (int i = from; i < from + count; ++i) text += (text.empty() ? "w" : " w") + std::to_string(i);
  return text;
}

}  // namespace earshot
