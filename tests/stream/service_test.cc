// Live streams and recordings of the service: the words are those of the same model offline, whatever comes together.
#include "src/stream/service.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "src/base/random.h"
#include "src/stream/transcriber.h"
#include "tests/stream/tiny_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/threads.h"

namespace earshot {
namespace {

constexpr int kLatency_ms = 160;

std::shared_ptr<const AsrModel> Model() {
  static const auto model = TinyModel({.pattern = "local(chunk=4,left=8)+strided(every=8,reach=32)",
                                       .convolution = ConvolutionKind::kSymmetric,
                                       .edge_padding_frames = 3});
  return model;
}

// What a listener gets, and a wait for its end.
class Collected {
 public:
  RecognitionService::StreamListener Listener() {
    return [this](StreamUpdate update) {
      const std::lock_guard lock(mutex_);
      for (const Segment& segment : update.finals) {
        text_ += (text_.empty() ? "" : " ") + segment.text;
        segments_.push_back(segment);
      }
      if (update.committed) ++commits_;
      ended_ = ended_ || update.finished;
      error_ += update.error;
      updates_.push_back(std::move(update));
      changed_.notify_all();
    };
  }
  bool WaitForEnd() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [this] { return ended_; });
  }
  bool WaitForCommits(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return commits_ >= count; });
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }
  std::vector<StreamUpdate> updates() const {
    const std::lock_guard lock(mutex_);
    return updates_;
  }
  std::string error() const {
    const std::lock_guard lock(mutex_);
    return error_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_, error_;
  std::vector<Segment> segments_;
  std::vector<StreamUpdate> updates_;
  int commits_ = 0;
  bool ended_ = false;
};

std::string Offline(const std::vector<float>& samples) {
  const Transcriber transcriber(Model(), {.reach = ReachForLatency(*Model(), {.latency_ms = kLatency_ms})});
  return transcriber.Transcribe(samples).text;
}

std::unique_ptr<RecognitionService> Service(int max_streams = 50) {
  return MakeRecognitionService(Model(),
                                {.latency = {.latency_ms = kLatency_ms}, .max_streams = max_streams, .threads = 2});
}

void Push(LiveStream& stream, const std::vector<float>& samples, uint64_t seed) {
  Random random = Random::For({seed});
  for (size_t at = 0; at < samples.size();) {
    const size_t count = std::min(samples.size() - at, static_cast<size_t>(1 + random.Uniform() * 4000));
    stream.AcceptWaveform(std::span(samples).subspan(at, count));
    at += count;
  }
}

TEST(RecognitionService, StreamsHaveAllCoresThoughEachRecordingHasOne) {
  const auto model = Model();  // which takes one
  const Threads three(3);
  const auto service = MakeRecognitionService(model, {.latency = {.latency_ms = kLatency_ms}, .recording_workers = 4});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the threads of recordings have begun
  std::atomic<int> threads = 0;
  Collected collected;
  const auto stream = service->OpenStream({}, [&, listener = collected.Listener()](StreamUpdate update) {
    threads = at::get_num_threads();
    listener(std::move(update));
  });
  stream->AcceptWaveform(Babble(1, 16000, 1));
  stream->InputFinished();
  ASSERT_TRUE(collected.WaitForEnd());
  EXPECT_EQ(threads, 3);
}

TEST(RecognitionService, StreamsSideBySideHearWhatEachHearsAlone) {
  const auto service = Service();
  std::vector<std::vector<float>> samples;
  std::vector<std::string> expected;
  for (uint64_t i = 0; i < 12; ++i) {
    samples.push_back(Babble(1 + 0.7 * static_cast<double>(i), 16000, i + 1));
    expected.push_back(Offline(samples.back()));
    ASSERT_FALSE(expected.back().empty());
  }
  std::vector<Collected> collected(samples.size());
  std::vector<std::unique_ptr<LiveStream>> streams;
  for (size_t i = 0; i < samples.size(); ++i) streams.push_back(service->OpenStream({}, collected[i].Listener()));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < samples.size(); ++i) {
    threads.emplace_back([&, i] {
      Push(*streams[i], samples[i], i);
      streams[i]->InputFinished();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < samples.size(); ++i) {
    ASSERT_TRUE(collected[i].WaitForEnd());
    EXPECT_EQ(collected[i].text(), expected[i]) << "stream " << i;
    EXPECT_NEAR(streams[i]->queued_s(), 0, 1e-9) << "stream " << i;
  }
  streams.clear();
  const ServiceStats stats = service->Stats();
  EXPECT_EQ(stats.streams_total, 12);
  EXPECT_GT(stats.audio_s_total, 12);
}

// What was said when does not depend on the messages that it came in.
TEST(RecognitionService, SegmentsAreThoseOfTheSoundNotOfItsPieces) {
  // A segment ends as soon as a second of it is over.
  ServiceOptions options;
  options.latency.latency_ms = kLatency_ms;
  options.endpoint.longest.min_trailing_silence_s = 0;
  options.endpoint.longest.min_utterance_s = 1;
  const auto service = MakeRecognitionService(Model(), options);
  const std::vector<float> samples = Babble(13, 16000, 7);
  const auto segments = [&](bool at_once) {
    Collected collected;
    const auto stream = service->OpenStream({}, collected.Listener());
    at_once ? stream->AcceptWaveform(samples) : Push(*stream, samples, 1);
    stream->InputFinished();
    EXPECT_TRUE(collected.WaitForEnd());
    std::vector<std::string> texts;
    for (const StreamUpdate& update : collected.updates())
      for (const Segment& segment : update.finals)
        texts.push_back(fmt::format("{:.2f} to {:.2f}: {}", segment.start_s, segment.end_s, segment.text));
    return texts;
  };
  const std::vector<std::string> in_pieces = segments(false);
  EXPECT_GT(in_pieces.size(), 1);
  EXPECT_EQ(segments(true), in_pieces);
}

// Whoever waits with more until less is queued would wait for ever, were what is looked ahead at among it.
TEST(RecognitionService, WhatIsLookedAheadAtIsNotQueued) {
  const auto model = TinyModel({.pattern = "hierarchical(chunk=8,left=8,lookahead=4,pool=2,levels=4,future=true)"});
  const auto service = MakeRecognitionService(model, {.threads = 2});
  Collected collected;
  const auto stream = service->OpenStream({}, collected.Listener());
  const std::vector<float> samples = Babble(4, 16000, 3);
  Push(*stream, samples, 1);
  for (int i = 0; i < 3000 && stream->queued_s() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_NEAR(stream->queued_s(), 0, 1e-9);
  for (const StreamUpdate& update : collected.updates()) EXPECT_EQ(update.recognized_s, 0);
  stream->InputFinished();
  ASSERT_TRUE(collected.WaitForEnd());
  EXPECT_EQ(collected.text(), Transcriber(model, {}).Transcribe(samples).text);
}

TEST(RecognitionService, UpdatesKeepStableWordsAndTellTheGate) {
  const auto service = Service();
  const std::vector<float> samples = Babble(8, 16000, 7);
  Collected collected;
  const auto stream = service->OpenStream({}, collected.Listener());
  Push(*stream, samples, 1);
  stream->InputFinished();
  ASSERT_TRUE(collected.WaitForEnd());
  std::vector<std::string> stable;
  size_t gates = 0;
  double last_end = 0;
  const std::vector<StreamUpdate> updates = collected.updates();
  for (const StreamUpdate& update : updates) {
    if (!update.finals.empty()) {
      for (size_t i = 0; i < stable.size(); ++i) EXPECT_EQ(update.finals.front().words[i].text, stable[i]);
      stable.clear();
    }
    for (size_t i = 0; i < stable.size(); ++i) EXPECT_EQ(update.words[i].text, stable[i]);
    for (size_t i = stable.size(); i < update.stable_words; ++i) stable.push_back(update.words[i].text);
    if (!update.gate.empty()) {
      EXPECT_NEAR(update.gate_start_s, static_cast<double>(gates) * service->info().encoder_frame_s, 1e-6);
    }
    gates += update.gate.size();
    EXPECT_LE(update.recognized_s, update.received_s + 1e-9);
    for (const Segment& segment : update.finals) {
      for (const Word& word : segment.words) {
        EXPECT_LE(word.start_s, word.end_s);
        EXPECT_GE(word.start_s, last_end - 1e-9);
        last_end = word.start_s;
      }
    }
  }
  EXPECT_NEAR(static_cast<double>(gates) * service->info().encoder_frame_s, 8, 0.05);
  EXPECT_TRUE(updates.back().words.empty());
  EXPECT_EQ(updates.back().recognized_s, updates.back().received_s);
}

TEST(RecognitionService, ACommitAnswersAndTheNextPartHearsNothingOfTheOneBefore) {
  const auto service = Service();
  const std::vector<float> one = Babble(2, 16000, 1), two = Babble(3, 16000, 2);
  Collected collected;
  const auto stream = service->OpenStream({}, collected.Listener());
  Push(*stream, one, 1);
  stream->Commit();
  ASSERT_TRUE(collected.WaitForCommits(1));
  EXPECT_EQ(collected.text(), Offline(one));
  Push(*stream, two, 2);
  stream->Clear();
  Push(*stream, two, 3);
  stream->Commit();
  stream->Commit();
  ASSERT_TRUE(collected.WaitForCommits(3));
  EXPECT_EQ(collected.text(), Offline(one) + " " + Offline(two));
  stream->InputFinished();
  ASSERT_TRUE(collected.WaitForEnd());
}

TEST(RecognitionService, NothingAndNonsenseGiveNothing) {
  const auto service = Service();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::vector<float>& samples :
       {std::vector<float>{}, std::vector<float>{0.5f}, std::vector<float>(100, nan), std::vector<float>(16000, nan)}) {
    Collected collected;
    const auto stream = service->OpenStream({}, collected.Listener());
    stream->AcceptWaveform(samples);
    stream->InputFinished();
    ASSERT_TRUE(collected.WaitForEnd());
    EXPECT_EQ(collected.error(), "");
    for (const StreamUpdate& update : collected.updates()) {
      for (const float g : update.gate) EXPECT_TRUE(g > 0 && g <= 1);
    }
  }
  EXPECT_THROW(service->OpenStream({.sample_rate = 0}, {}), Error);
  EXPECT_THROW(service->OpenStream({.sample_rate = nan}, {}), Error);
  EXPECT_THROW(service->OpenStream({.latency_ms = -5}, {}), Error);
  for (int i = 0; i < 1000 && service->Stats().streams > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(service->Stats().streams, 0);
}

TEST(RecognitionService, RefusesOneMoreAndTakesItWhenOneIsGone) {
  const auto service = Service(2);
  auto one = service->OpenStream({}, [](const StreamUpdate&) {});
  auto two = service->OpenStream({}, [](const StreamUpdate&) {});
  ASSERT_TRUE(one && two);
  EXPECT_FALSE(service->OpenStream({}, [](const StreamUpdate&) {}));
  one.reset();
  std::unique_ptr<LiveStream> again;
  for (int i = 0; i < 1000 && !again; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    again = service->OpenStream({}, [](const StreamUpdate&) {});
  }
  EXPECT_TRUE(again);
  EXPECT_GE(service->Stats().refused_total, 1);
}

TEST(RecognitionService, APlaceIsFreeAsSoonAsAStreamIsGone) {
  const auto service = Service(1);
  for (int i = 0; i < 20; ++i) {
    Collected collected;
    auto stream = service->OpenStream({}, collected.Listener());
    ASSERT_TRUE(stream) << i;
    stream->AcceptWaveform(Babble(0.5, 16000, 1));
    EXPECT_FALSE(service->OpenStream({}, collected.Listener()));
  }
}

TEST(RecognitionService, AStreamMayGoInItsListenerAndTheServiceBeforeItsStreams) {
  auto service = Service();
  const std::vector<float> samples = Babble(3, 16000, 5);
  std::atomic<int> calls{0};
  std::unique_ptr<LiveStream> stream;
  std::mutex mutex;
  {
    const std::lock_guard lock(mutex);
    stream = service->OpenStream({}, [&](const StreamUpdate&) {
      const std::lock_guard in(mutex);
      ++calls;
      stream.reset();
    });
    stream->AcceptWaveform(samples);
  }
  for (int i = 0; i < 2000 && calls == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(calls, 1);
  auto other = service->OpenStream({}, [](const StreamUpdate&) {});
  other->AcceptWaveform(samples);
  service.reset();
  other->AcceptWaveform(samples);
  other.reset();
}

TEST(RecognitionService, TranscribesRecordingsAndSaysWhatIsWrong) {
  const auto service = Service();
  const TempFolder folder;
  const std::vector<float> samples = Babble(30, 16000, 9);
  const std::string path = folder.Path("babble.wav");
  WriteWav(path, samples, 16000);
  struct Result {
    std::string text, error;
    double duration_s = 0;
    bool ended = false;
  };
  const auto run = [&](const std::string& file) {
    Result result;
    std::mutex mutex;
    std::condition_variable changed;
    const auto job = service->Transcribe(file, [&](const RecordingUpdate& update) {
      const std::lock_guard lock(mutex);
      for (const Segment& segment : update.segments) result.text += (result.text.empty() ? "" : " ") + segment.text;
      result.error += update.error;
      result.duration_s = update.duration_s;
      result.ended = update.finished;
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(60), [&] { return result.ended; }));
    return result;
  };
  const Result good = run(path);
  const auto reader = AudioReader::Open(path, {.sample_rate = 16000});
  EXPECT_EQ(good.text, Transcriber(Model()).Transcribe(*reader).text);
  EXPECT_EQ(good.error, "");
  EXPECT_NEAR(good.duration_s, 30, 1e-3);
  EXPECT_NE(run(folder.Path("missing.wav")).error, "");
}

}  // namespace
}  // namespace earshot
