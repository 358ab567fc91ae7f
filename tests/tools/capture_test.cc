#include "tools/cli/capture.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <mutex>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"

namespace earshot {
namespace {

constexpr int kRate = 1000;

// A tenth of a second in each Read, of 0.25, for so long; lost at its end where that is wanted.
class FakeSource : public LiveSource {
 public:
  explicit FakeSource(int blocks, bool is_lost = false) : blocks_(blocks), is_lost_(is_lost) {}
  bool Start(int timeout_ms) override { return true; }
  int sample_rate() const override { return kRate; }
  std::string description() const override { return "a test"; }
  size_t Read(std::span<float> mono, int timeout_ms) override {
    if (blocks_ == 0 && is_lost_) throw Error("the source is lost");
    const size_t size = std::min<size_t>(mono.size(), kRate / 10);
    std::fill_n(mono.begin(), size, 0.25f);
    --blocks_;
    return size;
  }
  bool ended() const override { return stopped_ || (blocks_ == 0 && !is_lost_); }
  void Stop() override { stopped_ = true; }
  LostAudio lost() const override { return {.times = 1, .frames = 500}; }

 private:
  int blocks_;
  const bool is_lost_;
  bool stopped_ = false;
};

class FakeStream : public LiveStream {
 public:
  void AcceptWaveform(std::span<const float> samples) override {
    EXPECT_FALSE(finished);
    received += samples.size();
  }
  double queued_s() const override { return queued; }
  void Commit() override {}
  void Clear() override {}
  void InputFinished() override { finished = true; }

  std::atomic<size_t> received{0};
  std::atomic<double> queued{0};
  std::atomic<bool> finished{false};
};

void Sleep(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(CaptureTest, PassesOnAllAndTellsTheEnd) {
  FakeSource source(25);
  FakeStream stream;
  std::vector<InputState> states;
  Capture capture(source, stream, {}, {.state = [&](InputState state) { states.push_back(state); }});
  capture.Join();
  EXPECT_EQ(stream.received, 2500u);
  EXPECT_TRUE(stream.finished);
  EXPECT_EQ(capture.error(), "");
  ASSERT_EQ(states.size(), 25u);
  EXPECT_DOUBLE_EQ(states.back().captured_s, 2.5);
  EXPECT_FLOAT_EQ(states.back().peak, 0.25f);
  EXPECT_EQ(states.back().gaps, 1);
  EXPECT_DOUBLE_EQ(states.back().lost_s, 0.5);
}

TEST(CaptureTest, EndsAfterItsDurationToTheSample) {
  FakeSource source(-1);
  FakeStream stream;
  Capture capture(source, stream, {.duration_s = 1.234}, {});
  capture.Join();
  EXPECT_EQ(stream.received, 1234u);
  EXPECT_TRUE(stream.finished);
}

TEST(CaptureTest, StopEndsItWithWhatWasHeardSaved) {
  const std::string path = ::testing::TempDir() + "earshot_capture_test.wav";
  FakeSource source(-1);
  FakeStream stream;
  Capture capture(source, stream, {.save = path}, {});
  while (stream.received < 1000) Sleep(1);
  capture.Stop();
  capture.Join();
  EXPECT_TRUE(stream.finished);
  EXPECT_EQ(ReadAudio(path, {.sample_rate = 0}), std::vector<float>(stream.received, 0.25f));
  std::filesystem::remove(path);
}

TEST(CaptureTest, LostSourceStillFlushesTheWords) {
  FakeSource source(3, /*is_lost=*/true);
  FakeStream stream;
  Capture capture(source, stream, {}, {});
  capture.Join();
  EXPECT_EQ(stream.received, 300u);
  EXPECT_TRUE(stream.finished);
  EXPECT_EQ(capture.error(), "the source is lost");
}

TEST(CaptureTest, DoesNotReadAheadOfTheNetwork) {
  FakeSource source(5);
  FakeStream stream;
  stream.queued = 3;
  Capture capture(source, stream, {.max_queued_s = 2}, {});
  Sleep(30);
  EXPECT_EQ(stream.received, 0u);
  stream.queued = 1;
  capture.Join();
  EXPECT_EQ(stream.received, 500u);
}

TEST(CaptureTest, FileThatCannotBeMadeIsToldAtOnce) {
  FakeSource source(5);
  FakeStream stream;
  EXPECT_THROW(Capture(source, stream, {.save = "/no/such/folder/x.wav"}, {}), Error);
}

}  // namespace
}  // namespace earshot
