#include "tools/cli/live_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"
#include "tests/support/temp_folder.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;

constexpr int kRate = 1000;

// Blocks one after the other; then the end, or a loss.
class FakeSource : public LiveSource {
 public:
  std::string name() const override { return "fake"; }
  int sample_rate() const override { return kRate; }
  bool Read(std::vector<float>& samples, int) override {
    ++reads;
    samples.clear();
    if (blocks.empty() && endless) return true;
    if (blocks.empty() && !loss.empty()) throw Error(loss);
    if (blocks.empty()) return false;
    samples = blocks.front();
    blocks.pop_front();
    return true;
  }
  Losses losses() const override { return lost; }

  std::deque<std::vector<float>> blocks;
  bool endless = false;
  std::string loss;
  Losses lost;
  int reads = 0;
};

// A word for each 100 samples; all is final at the end, or with every finals_after words. Listeners are called on a
// thread of their own.
class FakeService : public RecognitionService {
 public:
  const ServiceInfo& info() const override { return info_; }
  std::unique_ptr<LiveStream> OpenStream(const StreamOptions& options, StreamListener listener) override {
    last_options = options;
    if (full) return nullptr;
    return std::make_unique<Stream>(*this, std::move(listener));
  }
  std::unique_ptr<RecordingJob> Transcribe(const std::string&, RecordingListener) override { return nullptr; }
  ServiceStats Stats() const override { return {}; }

  StreamOptions last_options;
  bool full = false;
  std::string failure;  // after the first word
  std::atomic<double> queued_s{0};
  std::atomic<int> accepted{0};  // samples

 private:
  class Stream : public LiveStream {
   public:
    Stream(FakeService& service, StreamListener listener) : service_(service), listener_(std::move(listener)) {}
    void AcceptWaveform(std::span<const float> samples) override {
      const int before = service_.accepted;
      service_.accepted += static_cast<int>(samples.size());
      for (int at = before / 100; at < service_.accepted / 100; ++at) {
        words_.push_back({.text = "W" + std::to_string(at), .start_s = at * 0.1, .end_s = at * 0.1 + 0.09});
        Send({.words = words_,
              .recognized_s = at * 0.1 + 0.1,
              .finished = !service_.failure.empty(),
              .error = service_.failure});
      }
    }
    double queued_s() const override { return service_.queued_s; }
    void Commit() override {}
    void Clear() override {}
    void InputFinished() override {
      Segment segment{.start_s = 0, .end_s = 1, .words = words_};
      for (const Word& word : words_) segment.text += (segment.text.empty() ? "" : " ") + word.text;
      Send({.finals = words_.empty() ? std::vector<Segment>{} : std::vector{segment},
            .recognized_s = service_.accepted / double{kRate},
            .finished = true});
    }

   private:
    void Send(StreamUpdate update) {
      std::thread([&] { listener_(std::move(update)); }).join();
    }
    FakeService& service_;
    StreamListener listener_;
    std::vector<Word> words_;
  };
  ServiceInfo info_{.max_streams = 3};
};

class LiveSessionTest : public ::testing::Test {
 protected:
  LiveSessionTest() {
    hooks.stop = [&] { return stop_after_reads >= 0 && source.reads >= stop_after_reads; };
    hooks.write = [&](std::string_view bytes) {
      if (writes_left-- <= 0) return false;
      written += bytes;
      return true;
    };
    hooks.now_s = [&] { return now_s += 0.01; };
  }

  void Say(int blocks, float value = 0.25f) {
    for (int i = 0; i < blocks; ++i) source.blocks.emplace_back(100, value);
  }
  void Run(const LiveSessionOptions& options = {}) { RunLiveSession(source, service, view, options, hooks); }
  std::string ErrorOfRun(const LiveSessionOptions& options = {}) {
    try {
      Run(options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  FakeSource source;
  FakeService service;
  LineView view{{}};
  LiveSessionHooks hooks;
  std::string written;
  int stop_after_reads = -1, writes_left = 1000;
  double now_s = 0;
  TempFolder folder;
};

TEST_F(LiveSessionTest, WhatIsHeardIsWritten) {
  Say(3);
  Run({.latency_ms = 320});
  EXPECT_EQ(written, "W0 W1 W2\n");
  EXPECT_EQ(service.last_options.sample_rate, kRate);
  EXPECT_EQ(service.last_options.latency_ms, 320);
}

TEST_F(LiveSessionTest, AStopFlushesTheLastWords) {
  source.endless = true;
  Say(10);
  stop_after_reads = 4;
  Run();
  EXPECT_EQ(written, "W0 W1 W2 W3\n");
}

TEST_F(LiveSessionTest, TheDurationIsExact) {
  Say(10);
  Run({.duration_s = 0.35, .save = folder.Path("x.wav")});
  EXPECT_EQ(service.accepted, 350);
  EXPECT_EQ(written, "W0 W1 W2\n");
  EXPECT_EQ(ReadAudio(folder.Path("x.wav"), {.sample_rate = 0}), std::vector<float>(350, 0.25f));
}

TEST_F(LiveSessionTest, ALostSourceIsAnErrorAfterItsLastWords) {
  source.loss = "fake: gone";
  Say(2);
  EXPECT_EQ(ErrorOfRun({.save = folder.Path("x.wav")}), "fake: gone");
  EXPECT_EQ(written, "W0 W1\n");
  EXPECT_EQ(ReadAudio(folder.Path("x.wav"), {.sample_rate = 0}).size(), 200u);
}

TEST_F(LiveSessionTest, AFailedStreamIsAnErrorAtOnce) {
  source.endless = true;
  service.failure = "the model broke";
  Say(5);
  EXPECT_EQ(ErrorOfRun(), "recognition failed: the model broke");
  EXPECT_EQ(service.accepted, 100);
}

TEST_F(LiveSessionTest, AFullServiceIsAnError) {
  service.full = true;
  EXPECT_THAT(ErrorOfRun(), HasSubstr("all 3 streams are taken"));
}

TEST_F(LiveSessionTest, ARecordingThatCannotBeWrittenIsAnErrorBeforeAnythingIsHeard) {
  EXPECT_THAT(ErrorOfRun({.save = folder.Path("")}), HasSubstr("is a folder"));
  EXPECT_EQ(source.reads, 0);
}

TEST_F(LiveSessionTest, NobodyReadsAnyMore) {
  source.endless = true;
  view = LineView({.partials = true});
  writes_left = 2;
  Say(100);
  Run({.save = folder.Path("x.wav")});
  EXPECT_EQ(written, "partial\tW0\npartial\tW0 W1\n");
  EXPECT_EQ(ReadAudio(folder.Path("x.wav"), {.sample_rate = 0}).size(), 300u) << "the recording is whole all the same";
}

TEST_F(LiveSessionTest, ASourceThatIsFasterThanRecognitionWaits) {
  Say(3);
  service.queued_s = 11;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(service.accepted, 0);
    service.queued_s = 0;
  });
  Run();
  later.join();
  EXPECT_EQ(written, "W0 W1 W2\n");
}

// What a view is told.
class StatusView : public LiveView {
 public:
  void Resize(int columns, int) override { widths.push_back(columns); }
  std::string Update(const StreamUpdate&, const LiveStatus& status) override {
    latencies.push_back(status.latency_s);
    return "u";
  }
  std::string Tick(const LiveStatus& status) override {
    statuses.push_back(status);
    return "t";
  }
  std::string Finish() override { return "f"; }

  std::vector<int> widths;
  std::vector<double> latencies;
  std::vector<LiveStatus> statuses;
};

TEST_F(LiveSessionTest, TheStatusHasLevelLatencyAndLosses) {
  StatusView status_view;
  hooks.terminal_size = [] { return TerminalSize{.columns = 33, .rows = 5}; };
  hooks.now_s = [&] { return now_s += 1; };  // a drawing at each look
  source.lost = {.dropped_s = 0.5, .overruns = 2};
  Say(1, 1.0f);
  Say(1, 0.1f);
  source.blocks.emplace_back(1150);
  ::testing::internal::CaptureStderr();
  RunLiveSession(source, service, status_view, {}, hooks);
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_GE(status_view.statuses.size(), 3u);
  const LiveStatus &loud = status_view.statuses[0], &soft = status_view.statuses[1], &silent = status_view.statuses[2];
  EXPECT_NEAR(loud.level_db, 0, 0.01);
  EXPECT_TRUE(loud.clipped);
  EXPECT_NEAR(soft.level_db, -4, 0.01) << "40 dB a second";
  EXPECT_TRUE(soft.clipped) << "for a second";
  EXPECT_FALSE(silent.clipped);
  EXPECT_NEAR(silent.zeros_s, 1.15, 1e-6);
  EXPECT_NEAR(silent.level_db, -50, 0.01);
  EXPECT_NEAR(silent.heard_s, 1.35, 1e-6);
  EXPECT_EQ(loud.lost_s, 0.5);
  EXPECT_EQ(loud.overruns, 2);
  EXPECT_TRUE(status_view.statuses.back().finishing);
  EXPECT_NEAR(status_view.latencies[0], 0, 1e-6);
  EXPECT_NEAR(status_view.latencies[2], 1.05, 1e-6) << "0.3 s of 1.35 s are recognised";
  EXPECT_EQ(status_view.widths[0], 33);
  EXPECT_EQ(written.back(), 'f');
  EXPECT_THAT(log, HasSubstr("0.50 s of sound were lost"));
  EXPECT_THAT(log, HasSubstr("fake lost sound 2 times"));
}

}  // namespace
}  // namespace earshot
