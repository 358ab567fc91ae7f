#include "src/stream/transcriber.h"

#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "src/audio/wav_writer.h"
#include "src/base/error.h"
#include "src/decode/ctc_greedy.h"
#include "tests/stream/tiny_model.h"

namespace earshot {
namespace {

constexpr int kSampleRate = 16000;

// The words that the whole recording at once gives.
std::vector<Word> OfflineWords(const AsrModel& model, std::span<const float> samples) {
  const c10::InferenceMode inference;
  std::vector<float> features = model.Features(samples);
  const int64_t dim = model.extractor()->dim(), frames = static_cast<int64_t>(features.size()) / dim;
  const CtcOutput output = model.network().forward(at::from_blob(features.data(), {1, frames, dim}, at::kFloat),
                                                   at::full({1}, frames, at::kLong));
  CtcGreedyDecoder decoder(model.tokenizer(), model.encoder_frame_s());
  decoder.Accept(output.log_probs[0]);
  return decoder.TakeWords(true);
}

std::vector<Word> Words(const Transcript& transcript) {
  std::vector<Word> words;
  for (const Segment& segment : transcript.segments)
    words.insert(words.end(), segment.words.begin(), segment.words.end());
  return words;
}

void ExpectSameWords(const std::vector<Word>& got, const std::vector<Word>& expected, double duration_s) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].text, expected[i].text) << "word " << i;
    EXPECT_EQ(got[i].start_s, expected[i].start_s) << "word " << i;
    EXPECT_EQ(got[i].end_s, std::min(expected[i].end_s, duration_s)) << "word " << i;
    EXPECT_NEAR(got[i].confidence, expected[i].confidence, 1e-4) << "word " << i;
  }
}

class TranscriberFile : public ::testing::Test {
 protected:
  TranscriberFile()
      : path_((std::filesystem::temp_directory_path() / ("earshot_transcriber_" + std::to_string(getpid()) + ".wav"))
                  .string()) {}
  ~TranscriberFile() override { std::filesystem::remove(path_); }
  std::string path_;
};

TEST_F(TranscriberFile, WordsAndTimesAreThoseOfTheWholeAtOnce) {
  const auto model = TinyModel();
  WriteWav(path_, Babble(20.37, kSampleRate), kSampleRate);
  const std::vector<float> samples = ReadAudio(path_);
  const std::vector<Word> expected = OfflineWords(*model, samples);
  ASSERT_GT(expected.size(), 20u) << "too few words to prove anything";
  for (const double chunk_s : {0.5, 7.0, 60.0}) {
    SCOPED_TRACE(chunk_s);
    const auto reader = AudioReader::Open(path_, {});
    const Transcript transcript = Transcriber(model, {.chunk_s = chunk_s}).Transcribe(*reader);
    EXPECT_EQ(transcript.duration_s, 20.37);
    ExpectSameWords(Words(transcript), expected, transcript.duration_s);
  }
}

TEST(Transcriber, TextIsThatOfItsSegmentsAndTheirsThatOfTheWords) {
  const Transcript transcript = Transcriber(TinyModel()).Transcribe(Babble(12, kSampleRate));
  ASSERT_GT(transcript.segments.size(), 1u);
  std::string text;
  double end_s = 0;
  for (const Segment& segment : transcript.segments) {
    std::string words;
    for (const Word& word : segment.words) {
      words += (words.empty() ? "" : " ") + word.text;
      EXPECT_GE(word.start_s, end_s);
      EXPECT_GT(word.end_s, word.start_s);
      end_s = word.end_s;
    }
    EXPECT_EQ(segment.text, words);
    text += (text.empty() ? "" : " ") + segment.text;
  }
  EXPECT_EQ(transcript.text, text);
  EXPECT_LE(end_s, transcript.duration_s);
}

TEST(Transcriber, FullAttentionOfOneWindowIsThatOfTheWhole) {
  const auto model = TinyModel({.pattern = "full"});
  const std::vector<float> samples = Babble(9, kSampleRate);
  const std::vector<Word> expected = OfflineWords(*model, samples);
  size_t letters = 0;
  for (const Word& word : expected) letters += word.text.size();
  ASSERT_GT(letters, 5u) << "too few letters to prove anything";
  ExpectSameWords(Words(Transcriber(model, {.chunk_s = 2}).Transcribe(samples)), expected, 9);
}

TEST_F(TranscriberFile, NoSamplesAndLessThanAFrameAreAnEmptyTranscript) {
  for (const char* pattern : {"full", "local(chunk=4,left=8)"}) {
    const Transcriber transcriber(TinyModel({.pattern = pattern}));
    for (const size_t num_samples : {0, 1, 60}) {
      WriteWav(path_, std::vector<float>(num_samples, 0.1f), kSampleRate);
      const Transcript transcript = transcriber.Transcribe(*AudioReader::Open(path_, {}));
      EXPECT_EQ(transcript.text, "");
      EXPECT_TRUE(transcript.segments.empty());
      EXPECT_EQ(transcript.duration_s, static_cast<double>(num_samples) / kSampleRate);
    }
    // A frame and a few are no trouble either.
    for (const size_t num_samples : {160, 200, 700, 1600}) {
      EXPECT_NO_THROW(transcriber.Transcribe(std::vector<float>(num_samples, 0.1f))) << num_samples;
    }
  }
}

TEST(Transcriber, TellsItsProgressAndTheGate) {
  const auto model = TinyModel();
  std::vector<double> progress;
  std::vector<float> gate;
  TranscribeCallbacks callbacks;
  callbacks.progress = [&](double done_s) { progress.push_back(done_s); };
  callbacks.gate = [&](std::span<const float> values) { gate.insert(gate.end(), values.begin(), values.end()); };
  Transcriber(model, {.chunk_s = 2}).Transcribe(Babble(7, kSampleRate), callbacks);
  EXPECT_GE(progress.size(), 3u);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  EXPECT_EQ(progress.back(), 7.0);
  EXPECT_EQ(gate.size(), 175u);  // 7 s of encoder frames of 40 ms
  EXPECT_THAT(gate, ::testing::Each(::testing::AllOf(::testing::Gt(0.0f), ::testing::Le(1.0f))));

  gate.clear();
  Transcriber(TinyModel({.gate = GateKind::kOff})).Transcribe(Babble(2, kSampleRate), callbacks);
  EXPECT_TRUE(gate.empty());
}

// Silence round a recording is heard, and neither seen in the times nor in the gate.
TEST(Transcriber, EdgePaddingIsHeardButNotCounted) {
  const auto model = TinyModel({.edge_padding_frames = 3});
  const double edge_s = 0.12, duration_s = 5;
  const std::vector<float> samples = Babble(duration_s, kSampleRate);
  std::vector<float> padded(static_cast<size_t>(edge_s * kSampleRate));
  padded.insert(padded.end(), samples.begin(), samples.end());
  padded.resize(samples.size() + 2 * static_cast<size_t>(edge_s * kSampleRate));
  const std::vector<Word> expected = OfflineWords(*model, padded);
  std::vector<float> gate;
  TranscribeCallbacks callbacks;
  callbacks.gate = [&](std::span<const float> values) { gate.insert(gate.end(), values.begin(), values.end()); };
  const std::vector<Word> words = Words(Transcriber(model, {.chunk_s = 0.5}).Transcribe(samples, callbacks));
  ASSERT_GT(expected.size(), 4u);
  ASSERT_EQ(words.size(), expected.size());
  for (size_t i = 0; i < words.size(); ++i) {
    EXPECT_EQ(words[i].text, expected[i].text) << "word " << i;
    EXPECT_NEAR(words[i].start_s, std::clamp(expected[i].start_s - edge_s, 0.0, duration_s), 1e-9) << "word " << i;
    EXPECT_NEAR(words[i].end_s, std::clamp(expected[i].end_s - edge_s, 0.0, duration_s), 1e-9) << "word " << i;
  }
  EXPECT_EQ(gate.size(), 125u);
}

TEST(Transcriber, ThreadsShareOne) {
  const Transcriber transcriber(TinyModel(), {.chunk_s = 1});
  const std::vector<float> first = Babble(5, kSampleRate, 1), second = Babble(5, kSampleRate, 2);
  const std::string first_text = transcriber.Transcribe(first).text, second_text = transcriber.Transcribe(second).text;
  ASSERT_NE(first_text, second_text);
  std::string threaded;
  std::thread thread([&] { threaded = transcriber.Transcribe(first).text; });
  EXPECT_EQ(transcriber.Transcribe(second).text, second_text);
  thread.join();
  EXPECT_EQ(threaded, first_text);
}

TEST(TranscriberOptions, NamesTheKeyThatIsWrong) {
  const auto make = [](const TranscriberOptions& options) { Transcriber(TinyModel(), options); };
  EXPECT_NO_THROW(make({}));
  EXPECT_THROW(make({.chunk_s = 0}), Error);
  EXPECT_THROW(make({.window = {.window_s = 1}}), Error);
  EXPECT_THROW(make({.segmenter = {.pause_s = -1}}), Error);
}

}  // namespace
}  // namespace earshot
