#include "tools/cli/live_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"
#include "tests/support/temp_folder.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;

constexpr int kRate = 1000;

// So many blocks of 100 samples; then the end, or a loss, or nothing more for ever.
class FakeSource : public LiveSource {
 public:
  bool Start(int) override {
    if (raise_in_start) raise(SIGINT);
    return !raise_in_start;
  }
  int sample_rate() const override { return kRate; }
  std::string description() const override { return "a fake"; }
  size_t Read(std::span<float> mono, int) override {
    if (blocks == 0 && !loss.empty()) throw Error(loss);
    if (blocks == 0) {
      if (std::exchange(raise_after_blocks, false)) raise(SIGINT);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return 0;
    }
    --blocks;
    const size_t size = std::min<size_t>(mono.size(), 100);
    std::fill_n(mono.begin(), size, 0.25f);
    return size;
  }
  bool ended() const override { return stopped || (blocks == 0 && loss.empty() && !endless); }
  void Stop() override { stopped = true; }
  LostAudio lost() const override { return losses; }

  int blocks = 0;
  bool endless = false, raise_in_start = false, raise_after_blocks = false, stopped = false;
  std::string loss;
  LostAudio losses;
};

// A word for each 100 samples; all are final at the end. Listeners are called on a thread of their own.
class FakeService : public RecognitionService {
 public:
  const ServiceInfo& info() const override { return info_; }
  std::unique_ptr<LiveStream> OpenStream(const StreamOptions& options, StreamListener listener) override {
    last_options = options;
    if (is_full) return nullptr;
    return std::make_unique<Stream>(*this, std::move(listener));
  }
  std::unique_ptr<RecordingJob> Transcribe(const std::string&, RecordingListener) override { return nullptr; }
  ServiceStats Stats() const override { return {}; }

  StreamOptions last_options;
  bool is_full = false;
  std::string failure;  // after the first word
  double behind_s = 0;  // as its updates tell

 private:
  class Stream : public LiveStream {
   public:
    Stream(FakeService& service, StreamListener listener) : service_(service), listener_(std::move(listener)) {}
    void AcceptWaveform(std::span<const float> samples) override {
      received_s_ += static_cast<double>(samples.size()) / kRate;
      const double start_s = static_cast<double>(words_.size()) * 0.1;
      words_.push_back({.text = "W" + std::to_string(words_.size()), .start_s = start_s, .end_s = start_s + 0.09});
      StreamUpdate update;
      update.words = words_;
      update.finished = !service_.failure.empty();
      update.error = service_.failure;
      Send(std::move(update));
    }
    double queued_s() const override { return 0; }
    void Commit() override {}
    void Clear() override {}
    void InputFinished() override {
      StreamUpdate update;
      Segment segment;
      segment.words = words_;
      for (const Word& word : words_) segment.text += (segment.text.empty() ? "" : " ") + word.text;
      if (!words_.empty()) update.finals.push_back(segment);
      update.finished = true;
      Send(std::move(update));
    }

   private:
    void Send(StreamUpdate update) {
      update.received_s = received_s_ + service_.behind_s;
      update.recognized_s = received_s_;
      std::thread([&] { listener_(std::move(update)); }).join();
    }
    FakeService& service_;
    StreamListener listener_;
    std::vector<Word> words_;
    double received_s_ = 0;
  };
  ServiceInfo info_;
};

class LiveSessionTest : public ::testing::Test {
 protected:
  // What it wrote on stdout; log_ gets stderr, error_ what it threw.
  std::string Run(LiveSessionOptions options = {}) {
    if (options.form == LiveForm::kTerminal) options.form = LiveForm::kLines;
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    error_.clear();
    try {
      RunLiveSession(service_, source_, options);
    } catch (const Error& e) {
      error_ = e.what();
    }
    log_ = testing::internal::GetCapturedStderr();
    return testing::internal::GetCapturedStdout();
  }

  FakeSource source_;
  FakeService service_;
  TempFolder folder_;
  std::string log_, error_;
};

TEST_F(LiveSessionTest, WhatIsHeardIsWritten) {
  source_.blocks = 3;
  EXPECT_EQ(Run({}), "W0 W1 W2\n");
  EXPECT_EQ(error_, "");
  EXPECT_EQ(service_.last_options.sample_rate, kRate);
  EXPECT_THAT(log_, HasSubstr("listening to a fake; Ctrl-C ends"));
}

TEST_F(LiveSessionTest, PartialsAreWrittenWhereTheyAreWanted) {
  source_.blocks = 2;
  EXPECT_EQ(Run({.partials = true}), "partial\tW0\npartial\tW0 W1\nfinal\tW0 W1\n");
}

TEST_F(LiveSessionTest, AnInterruptFlushesTheLastWords) {
  source_.blocks = 4;
  source_.endless = source_.raise_after_blocks = true;
  EXPECT_EQ(Run({.capture = {.save = folder_.Path("x.wav")}}), "W0 W1 W2 W3\n");
  EXPECT_EQ(error_, "");
  EXPECT_TRUE(source_.stopped);
  EXPECT_EQ(ReadAudio(folder_.Path("x.wav"), {.sample_rate = 0}), std::vector<float>(400, 0.25f));
  EXPECT_THAT(log_, HasSubstr("saved 0.4 s as"));
}

TEST_F(LiveSessionTest, AnInterruptBeforeAnythingCameEndsIt) {
  source_.raise_in_start = true;
  EXPECT_EQ(Run(), "");
  EXPECT_EQ(error_, "");
}

TEST_F(LiveSessionTest, TheSecondInterruptEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto twice = [&] {
    source_.endless = true;
    std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      kill(getpid(), SIGINT);
      kill(getpid(), SIGTERM);
    }).detach();
    RunLiveSession(service_, source_, {.form = LiveForm::kLines});
    std::this_thread::sleep_for(std::chrono::seconds(10));
  };
  EXPECT_EXIT(twice(), testing::ExitedWithCode(130), "");
}

TEST_F(LiveSessionTest, SignalsAreAsBeforeAfterwards) {
  struct sigaction before, after;
  sigaction(SIGINT, nullptr, &before);
  source_.blocks = 1;
  Run();
  sigaction(SIGINT, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST_F(LiveSessionTest, TheLossOfTheSourceIsAnErrorAfterItsLastWords) {
  source_.loss = "a fake: gone";
  source_.blocks = 2;
  EXPECT_EQ(Run(), "W0 W1\n");
  EXPECT_EQ(error_, "a fake: gone");
}

TEST_F(LiveSessionTest, FailedRecognitionIsAnErrorAtOnce) {
  source_.endless = true;
  source_.blocks = 1;
  service_.failure = "the model broke";
  Run();
  EXPECT_EQ(error_, "recognition has failed: the model broke");
}

TEST_F(LiveSessionTest, AServiceThatIsFullIsAnError) {
  service_.is_full = true;
  Run();
  EXPECT_THAT(error_, HasSubstr("all streams of the recognition service are taken"));
}

TEST_F(LiveSessionTest, AFileThatCannotBeSavedIsAnErrorBeforeAnythingIsHeard) {
  source_.blocks = 1;
  EXPECT_EQ(Run({.capture = {.save = folder_.Path("none/x.wav")}}), "");
  EXPECT_THAT(error_, HasSubstr("cannot be made"));
  EXPECT_EQ(source_.blocks, 1);
}

TEST_F(LiveSessionTest, LossesAndLatenessAreToldOnce) {
  source_.blocks = 5;
  source_.losses = {.times = 2, .frames = 500};
  service_.behind_s = 7;
  Run();
  EXPECT_EQ(error_, "");
  EXPECT_THAT(log_, HasSubstr("recognition is 7 s behind"));
  EXPECT_EQ(log_.find("is 7 s behind"), log_.rfind("is 7 s behind"));
  EXPECT_THAT(log_, HasSubstr("audio was lost at about 0.1 s"));
  EXPECT_THAT(log_, HasSubstr("2 gaps in 0.5 s of audio, 0.5 s known to be lost"));
  // What waits in a pipe is not behind.
  source_.blocks = 5;
  source_.stopped = false;
  Run({.capture = {.max_queued_s = 5}});
  EXPECT_EQ(log_.find("behind"), std::string::npos);
}

}  // namespace
}  // namespace earshot
