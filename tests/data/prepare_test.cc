#include "src/data/prepare.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "src/audio/audio_reader.h"
#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;

std::set<std::string> Speakers(const std::vector<Utterance>& utterances) {
  std::set<std::string> speakers;
  for (const Utterance& utterance : utterances) speakers.insert(utterance.speaker);
  return speakers;
}

class PrepareTest : public testing::Test {
 protected:
  std::vector<Utterance> Load(const std::string& split) {
    return LoadManifest(folder_.Path("out/" + split + ".jsonl"));
  }
  void Prepare(const std::string& corpus, const std::string& source) {
    PrepareCorpus(corpus, folder_.Path(source), folder_.Path("out"));
  }

  // A raw file as AN4 has it: 16 bit samples, the first byte the higher one or the lower.
  void WriteRaw(const std::string& name, const std::vector<int16_t>& samples, bool big_endian) {
    std::string bytes;
    for (const int16_t x : samples) {
      const auto high = static_cast<char>(static_cast<uint16_t>(x) >> 8U), low = static_cast<char>(x & 0xFF);
      bytes += big_endian ? high : low;
      bytes += big_endian ? low : high;
    }
    folder_.Write(name, bytes);
  }

  // Speakers of train: two of the dev set's, two others; of test: one. Two utterances each.
  void WriteAn4(bool big_endian) {
    std::map<std::string, std::string> ids, texts;
    for (const char* speaker : {"fash", "fclc", "mtcv", "mwhw"})
      AddAn4Speaker("train", "an4_clstk", speaker, ids, texts);
    AddAn4Speaker("test", "an4test_clstk", "fcaw", ids, texts);
    for (const char* split : {"train", "test"}) {
      folder_.Write(fmt::format("an4/etc/an4_{}.fileids", split), ids[split]);
      folder_.Write(fmt::format("an4/etc/an4_{}.transcription", split), texts[split]);
    }
    for (const auto& [name, samples] : raw_) WriteRaw("an4/wav/" + name + ".raw", samples, big_endian);
  }

  void AddAn4Speaker(const std::string& split, const std::string& folder, const std::string& speaker,
                     std::map<std::string, std::string>& ids, std::map<std::string, std::string>& texts) {
    for (int i = 0; i < 2; ++i) {
      const std::string id = fmt::format("an{}-{}-b", 250 + i, speaker);
      const std::string file_id = fmt::format("{}/{}/{}", folder, speaker, id);
      ids[split] += file_id + "\n";
      // The two forms that the corpus has.
      texts[split] +=
          i == 0 ? fmt::format("<s> RUBOUT {} </s> ({})\n", speaker, id) : fmt::format("yes  no ({})\n", id);
      std::vector<int16_t> samples;
      for (const float x : Tone(0.1 * (1 + i), 300)) samples.push_back(static_cast<int16_t>(std::lround(x * 2000)));
      raw_[file_id] = samples;
    }
  }

  TestFolder folder_;
  std::map<std::string, std::vector<int16_t>> raw_;
};

TEST_F(PrepareTest, An4RawInEitherByteOrder) {
  for (const bool big_endian : {true, false}) {
    WriteAn4(big_endian);
    // The folder itself, or the one that it was unpacked into.
    Prepare("an4", big_endian ? "an4" : "");
    const auto train = Load("train"), dev = Load("dev"), test = Load("test");
    EXPECT_EQ(Speakers(train), (std::set<std::string>{"fash", "mwhw"}));
    EXPECT_EQ(Speakers(dev), (std::set<std::string>{"fclc", "mtcv"}));
    EXPECT_EQ(Speakers(test), (std::set<std::string>{"fcaw"}));
    ASSERT_EQ(train.size(), 4U);
    EXPECT_EQ(train[0].id, "an250-fash-b");
    EXPECT_EQ(train[0].text, "RUBOUT FASH");
    EXPECT_EQ(train[1].text, "YES NO");
    EXPECT_EQ(train[1].split, "train");
    EXPECT_DOUBLE_EQ(train[1].duration_s, 0.2);
    const std::vector<float> samples = ReadAudio(train[1].audio_path);
    const std::vector<int16_t>& expected = raw_["an4_clstk/fash/an251-fash-b"];
    ASSERT_EQ(samples.size(), expected.size());
    for (size_t i = 0; i < samples.size(); ++i) ASSERT_EQ(samples[i] * 32768, expected[i]) << i;
  }
}

TEST_F(PrepareTest, An4OfAManifestFolder) {
  std::string lines;
  for (const char* speaker : {"fash", "fclc", "mtcv"}) {
    folder_.WriteTone(fmt::format("copy/train/{}.wav", speaker), 0.1);
    lines += fmt::format(R"({{"audio_filepath": "train/{0}.wav", "duration": 0.1, "text": "YES", "speaker": "{0}", )"
                         R"("split": "train"}})"
                         "\n",
                         speaker);
  }
  folder_.WriteTone("copy/test/fcaw.wav", 0.1);
  lines += R"({"audio_filepath": "test/fcaw.wav", "duration": 0.1, "text": "NO", "speaker": "fcaw", "split": "test"})";
  folder_.Write("copy/manifest.jsonl", lines);
  Prepare("an4", "copy");
  EXPECT_EQ(Speakers(Load("train")), (std::set<std::string>{"fash"}));
  EXPECT_EQ(Speakers(Load("dev")), (std::set<std::string>{"fclc", "mtcv"}));
  EXPECT_EQ(Load("dev")[0].split, "dev");
  // From anywhere: the audio was not copied, and is found.
  EXPECT_EQ(ReadAudio(Load("test")[0].audio_path).size(), 1600U);
}

TEST_F(PrepareTest, An4ErrorsSayWhatIsMissing) {
  WriteAn4(true);
  std::filesystem::remove(folder_.Path("an4/wav/an4_clstk/fash/an251-fash-b.raw"));
  EXPECT_THAT(ErrorOf([&] { Prepare("an4", "an4"); }),
              testing::AllOf(HasSubstr("an4_train.fileids:2"), HasSubstr("an251-fash-b.sph is there")));
  folder_.Write("an4/etc/an4_train.transcription", "<s> YES </s> (an250-fash-b)\n");
  EXPECT_THAT(ErrorOf([&] { Prepare("an4", "an4"); }), HasSubstr("has no line in an4_train.transcription"));
  folder_.Write("an4/etc/an4_train.transcription", "YES\n");
  EXPECT_THAT(ErrorOf([&] { Prepare("an4", "an4"); }), HasSubstr("an4_train.transcription:1: 'YES' has no (id)"));
}

TEST_F(PrepareTest, Yesno) {
  for (const char* name : {"0_0_0_0_1_1_1_1", "1_0_0_0_0_0_0_1", "0_1_1_1_1_1_1_0", "1_1_1_1_1_1_1_1"})
    folder_.WriteTone(fmt::format("waves_yesno/{}.wav", name), 0.2, 440, 8000);
  folder_.Write("waves_yesno/README", "not audio");
  for (const char* source : {"waves_yesno", ""}) {
    Prepare("yesno", source);
    const auto train = Load("train"), test = Load("test");
    ASSERT_EQ(train.size(), 2U);
    ASSERT_EQ(test.size(), 2U);
    EXPECT_EQ(train[0].text, "NO NO NO NO YES YES YES YES");
    EXPECT_EQ(train[1].id, "0_1_1_1_1_1_1_0");
    EXPECT_EQ(test[1].text, "YES YES YES YES YES YES YES YES");
    EXPECT_DOUBLE_EQ(train[0].duration_s, 0.2);
    EXPECT_EQ(ReadAudio(test[0].audio_path).size(), 3200U) << "8 kHz, read at 16";
  }
  folder_.WriteTone("waves_yesno/0_2.wav", 0.1);
  EXPECT_THAT(ErrorOf([&] { Prepare("yesno", "waves_yesno"); }), HasSubstr("expected a name of 0 and 1"));
}

TEST_F(PrepareTest, Fsdd) {
  for (const char* name : {"0_ann_0", "7_ann_4", "7_ann_5", "9_bob_12", "9_bob_3"})
    folder_.WriteTone(fmt::format("repository/recordings/{}.wav", name), 0.3, 440, 8000);
  Prepare("fsdd", "repository");
  const auto train = Load("train"), test = Load("test");
  ASSERT_EQ(train.size(), 2U);
  EXPECT_EQ(train[0].id, "7_ann_5");
  EXPECT_EQ(train[0].text, "seven");
  EXPECT_EQ(train[1].speaker, "bob");
  ASSERT_EQ(test.size(), 3U);
  EXPECT_EQ(test[0].text, "zero");
  EXPECT_DOUBLE_EQ(test[0].duration_s, 0.3);
  for (const char* wrong : {"seven_ann_1", "7_ann", "7__1", "7_ann_x"}) {
    const std::string path = folder_.WriteTone(fmt::format("repository/recordings/{}.wav", wrong), 0.1);
    EXPECT_THAT(ErrorOf([&] { Prepare("fsdd", "repository"); }), HasSubstr("expected a name such as 7_jackson_32.wav"))
        << wrong;
    std::filesystem::remove(path);
  }
}

TEST_F(PrepareTest, TheWrongFolderSaysWhereTheCorpusIs) {
  folder_.Write("other/readme.txt", "nothing here");
  for (const CorpusPreparer& corpus : Corpora()) {
    EXPECT_THAT(ErrorOf([&] { Prepare(corpus.name, "other"); }),
                testing::AllOf(HasSubstr("other: not " + corpus.name), HasSubstr(corpus.home)));
    EXPECT_THAT(ErrorOf([&] { Prepare(corpus.name, "nowhere"); }),
                testing::AllOf(HasSubstr("nowhere: no such folder"), HasSubstr(corpus.home)));
  }
  EXPECT_THAT(ErrorOf([&] { Prepare("an5", "other"); }), HasSubstr("did you mean 'an4'?"));
}

TEST_F(PrepareTest, TheSameSourceGivesTheSameFiles) {
  WriteAn4(true);
  Prepare("an4", "an4");
  const std::string first = ReadFile(folder_.Path("out/dev.jsonl"));
  Prepare("an4", "an4");
  EXPECT_EQ(ReadFile(folder_.Path("out/dev.jsonl")), first);
}

}  // namespace
}  // namespace earshot
