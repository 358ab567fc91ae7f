#include "src/data/audio_cache.h"

#include <gmock/gmock.h>

#include <thread>

#include "src/audio/audio_reader.h"
#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;

TEST(AudioCache, TheSameSamplesWithAndWithout) {
  const TestFolder folder;
  const std::string path = folder.WriteTone("a.wav", 1.0);
  const Utterance whole{"a", path, 0, -1}, part{"b", path, 0.25, 0.5};
  for (const double cache_mb : {0.0, 0.001, 10.0}) {
    AudioCache cache(16000, cache_mb);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(cache.Read(whole), ReadAudio(path)) << cache_mb;
      EXPECT_EQ(cache.Read(part), ReadAudio(path, {.offset_s = 0.25, .duration_s = 0.5})) << cache_mb;
    }
  }
}

TEST(AudioCache, ReadsFilesOnce) {
  const TestFolder folder;
  const Utterance utterance{"a", folder.WriteTone("a.wav", 1.0), 0, -1};
  AudioCache large(16000, 1), small(16000, 0.01);
  const std::vector<float> first = large.Read(utterance);
  small.Read(utterance);
  std::filesystem::remove(utterance.audio_path);
  EXPECT_EQ(large.Read(utterance), first);
  EXPECT_THROW(small.Read(utterance), Error) << "1 s is 32 kB and was not to be kept in 10";
}

TEST(AudioCache, RoundedDurationsKeepTheTail) {
  const TestFolder folder;
  const std::string path = folder.WriteTone("a.wav", 1.004);
  AudioCache cache(16000, 0);
  EXPECT_EQ(cache.Read({"a", path, 0, 1.0}).size(), 16064U);
  // Where the recording goes on, the end is the manifest's.
  EXPECT_EQ(cache.Read({"a", path, 0, 0.5}).size(), 8000U);
}

TEST(AudioCache, DamagedFilesAreErrorsThatNameThem) {
  const TestFolder folder;
  AudioCache cache(16000, 1);
  const auto error = [&](const std::string& path, double duration_s) {
    return ErrorOf([&] { cache.Read({"a", path, 0, duration_s}); });
  };
  EXPECT_THAT(error(folder.Path("none.wav"), -1), HasSubstr("none.wav"));
  EXPECT_THAT(error(folder.Write("empty.wav", ""), -1), HasSubstr("empty.wav"));
  EXPECT_THAT(error(folder.WriteTone("header.wav", 0), -1), HasSubstr("header.wav"));
  const std::string whole = ReadFile(folder.WriteTone("a.wav", 1.0));
  EXPECT_THAT(error(folder.Write("cut.wav", whole.substr(0, whole.size() / 2)), -1), HasSubstr("cut.wav"));
  EXPECT_THAT(error(folder.Path("a.wav"), 2.0), HasSubstr("1.00 s of audio, the manifest says 2.00 s"));
}

TEST(AudioCache, ManyThreads) {
  const TestFolder folder;
  std::vector<Utterance> utterances;
  for (int i = 0; i < 8; ++i)
    utterances.push_back({"u", folder.WriteTone(fmt::format("{}.wav", i), 0.1, 100 * (i + 1)), 0, -1});
  AudioCache cache(16000, 0.01);
  std::vector<std::vector<float>> expected;
  for (const Utterance& utterance : utterances) expected.push_back(ReadAudio(utterance.audio_path));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 40; ++i) wrong[t] += cache.Read(utterances[(i + t) % 8]) != expected[(i + t) % 8];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

}  // namespace
}  // namespace earshot
