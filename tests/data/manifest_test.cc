#include "src/data/manifest.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class ManifestTest : public testing::Test {
 protected:
  std::string LoadError(const std::string& name, const std::string& split = "") {
    return ErrorOf([&] { LoadManifest(folder_.Path(name), split); });
  }
  TestFolder folder_;
};

TEST_F(ManifestTest, NemoLines) {
  folder_.Write("train.jsonl", R"({"audio_filepath": "a/one.wav", "duration": 1.5, "text": "ONE", "speaker": "s"}

{"audio_filepath": "/far/two.flac", "offset": 3, "duration": 2, "text": "TWO", "split": "dev", "extra": [1]}
{"id": "mine", "audio_filepath": "a/../b.wav", "text": 7, "speaker": 12}
)");
  const auto utterances = LoadManifest(folder_.Path("train.jsonl"));
  ASSERT_EQ(utterances.size(), 3U);
  EXPECT_EQ(utterances[0], (Utterance{"one", folder_.Path("a/one.wav"), 0, 1.5, "ONE", "s", ""}));
  EXPECT_EQ(utterances[1], (Utterance{"two", "/far/two.flac", 3, 2, "TWO", "", "dev"}));
  EXPECT_EQ(utterances[2], (Utterance{"mine", folder_.Path("b.wav"), 0, -1, "7", "12", ""}));
}

TEST_F(ManifestTest, IdsOfTheSameFileAreMadeUnique) {
  folder_.Write("m.jsonl", R"({"audio_filepath": "x/a.wav", "offset": 0, "duration": 1, "text": "A"}
{"audio_filepath": "x/a.wav", "offset": 1, "duration": 1, "text": "B"}
{"audio_filepath": "y/a.wav", "text": "C"})");
  const auto utterances = LoadManifest(folder_.Path("m.jsonl"));
  EXPECT_EQ(utterances[0].id, "a");
  EXPECT_EQ(utterances[1].id, "a-2");
  EXPECT_EQ(utterances[2].id, "a-3");
}

TEST_F(ManifestTest, Splits) {
  folder_.Write("m.jsonl", R"({"audio_filepath": "a.wav", "split": "train"}
{"audio_filepath": "b.wav", "split": "test"}
{"audio_filepath": "c.wav"})");
  const auto test = LoadManifest(folder_.Path("m.jsonl"), "test");
  ASSERT_EQ(test.size(), 1U);
  EXPECT_EQ(test[0].id, "b");
  EXPECT_THAT(LoadError("m.jsonl", "tset"), HasSubstr("did you mean 'test'?"));
  folder_.Write("n.jsonl", R"({"audio_filepath": "a.wav"})");
  EXPECT_THAT(LoadError("n.jsonl", "test"), HasSubstr("no utterance has a 'split'"));
}

TEST_F(ManifestTest, NemoErrorsNameTheLine) {
  const std::string good = R"({"audio_filepath": "a.wav"})";
  const auto error = [&](const std::string& line) {
    folder_.Write("m.jsonl", good + "\n" + line + "\n");
    return LoadError("m.jsonl");
  };
  EXPECT_THAT(error("{oops"), HasSubstr("m.jsonl:2: not JSON: '{oops'"));
  EXPECT_THAT(error("[1]"), HasSubstr("m.jsonl:2: found array, expected an object {...}"));
  EXPECT_THAT(error(R"({"text": "A"})"), HasSubstr("m.jsonl:2: neither 'audio_filepath'"));
  EXPECT_THAT(error(R"({"audio_filepath": ""})"), HasSubstr("m.jsonl:2: 'audio_filepath' is missing or empty"));
  EXPECT_THAT(error(R"({"audio_filepath": "b", "duration": -2})"), HasSubstr("'duration' is -2 s, expected 0 or more"));
  EXPECT_THAT(error(R"({"audio_filepath": "b", "duration": "x"})"), HasSubstr("'duration' is \"x\", expected seconds"));
  EXPECT_THAT(error(R"({"audio_filepath": "b", "text": ["A"]})"), HasSubstr("expected a text"));
  EXPECT_THAT(error(R"({"audio_filepath": "b", "id": "a"})"), HasSubstr("m.jsonl:2: id 'a' was there before"));
}

TEST_F(ManifestTest, MissingAndEmptyManifests) {
  EXPECT_THAT(LoadError("none.jsonl"), HasSubstr("no such manifest"));
  folder_.Write("empty.jsonl", "\n");
  EXPECT_THAT(LoadError("empty.jsonl"), HasSubstr("no utterances in it"));
}

const char* const kCut =
    R"({"id": "cut-1", "start": 0.5, "duration": 2.25, "channel": 0, "type": "MonoCut", "custom": {"split": "dev"},
 "supervisions": [{"id": "s1", "recording_id": "r", "start": 0, "duration": 1, "channel": 0, "text": "HELLO",
 "speaker": "ann"}, {"id": "s2", "recording_id": "r", "start": 1, "duration": 1, "text": "WORLD", "speaker": "bob"}],
 "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "r.wav"}], "sampling_rate": 16000,
 "num_samples": 80000, "duration": 5.0}})";

std::string OneLine(std::string text) {
  std::erase(text, '\n');
  return text + "\n";
}

TEST_F(ManifestTest, LhotseCuts) {
  folder_.WriteTone("r.wav", 0.1);
  folder_.Write("cuts.jsonl", OneLine(kCut));
  const auto utterances = LoadManifest(folder_.Path("cuts.jsonl"));
  ASSERT_EQ(utterances.size(), 1U);
  EXPECT_EQ(utterances[0], (Utterance{"cut-1", folder_.Path("r.wav"), 0.5, 2.25, "HELLO WORLD", "ann", "dev"}));
}

TEST_F(ManifestTest, LhotseCutsGzipped) {
  gzFile file = gzopen(folder_.Path("cuts.jsonl.gz").c_str(), "wb");
  const std::string lines = OneLine(kCut);
  ASSERT_EQ(gzwrite(file, lines.data(), static_cast<unsigned>(lines.size())), static_cast<int>(lines.size()));
  gzclose(file);
  EXPECT_EQ(LoadManifest(folder_.Path("cuts.jsonl.gz"))[0].text, "HELLO WORLD");
  // Cut off in its middle.
  const std::string bytes = ReadFile(folder_.Path("cuts.jsonl.gz"));
  folder_.Write("short.jsonl.gz", bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(LoadError("short.jsonl.gz"), HasSubstr("was the download cut off?"));
}

TEST_F(ManifestTest, LhotseErrorsSayWhatToDo) {
  std::string command = OneLine(kCut);
  command.replace(command.find("\"file\""), 6, "\"command\"");
  folder_.Write("cuts.jsonl", command);
  EXPECT_THAT(LoadError("cuts.jsonl"), testing::AllOf(HasSubstr("cuts.jsonl:1"), HasSubstr("of type 'command'"),
                                                      HasSubstr("save the audio to files first")));
  folder_.Write("mixed.jsonl", R"({"id": "m", "tracks": [], "type": "MixedCut"})");
  EXPECT_THAT(LoadError("mixed.jsonl"), testing::AllOf(HasSubstr("mixed.jsonl:1"), HasSubstr("'MixedCut'")));
}

TEST_F(ManifestTest, KaldiFolder) {
  folder_.WriteTone("a.wav", 0.1);
  folder_.Write("wav.scp", "u1 a.wav\nu2  /far/with space.flac \n\n");
  folder_.Write("text", "u2 GOOD   MORNING\nu1 YES\n");
  folder_.Write("utt2spk", "u1 ann\nu2 bob\n");
  folder_.Write("utt2dur", "u1 0.1\n");
  const auto utterances = LoadManifest(folder_.Path(""));
  ASSERT_EQ(utterances.size(), 2U);
  EXPECT_EQ(utterances[0], (Utterance{"u1", folder_.Path("a.wav"), 0, 0.1, "YES", "ann", ""}));
  EXPECT_EQ(utterances[1], (Utterance{"u2", "/far/with space.flac", 0, -1, "GOOD   MORNING", "bob", ""}));
}

TEST_F(ManifestTest, KaldiSegments) {
  folder_.Write("wav.scp", "r /far/r.wav\n");
  folder_.Write("segments", "r-1 r 0.5 2.0\nr-2 r 2.0 -1\n");
  folder_.Write("text", "r-1 ONE\nr-2\n");
  const auto utterances = LoadManifest(folder_.Path(""));
  ASSERT_EQ(utterances.size(), 2U);
  EXPECT_EQ(utterances[0], (Utterance{"r-1", "/far/r.wav", 0.5, 1.5, "ONE", "", ""}));
  EXPECT_EQ(utterances[1], (Utterance{"r-2", "/far/r.wav", 2.0, -1, "", "", ""}));
}

TEST_F(ManifestTest, KaldiErrorsNameFileAndLine) {
  EXPECT_THAT(LoadError(""), HasSubstr("no wav.scp in it"));
  const auto scp_error = [&](const std::string& line) {
    folder_.Write("wav.scp", "u1 /a.wav\n" + line + "\n");
    return LoadError("");
  };
  EXPECT_THAT(scp_error("u2 sph2pipe -f wav b.sph |"),
              testing::AllOf(HasSubstr("wav.scp:2"), HasSubstr("is a command, which is not run"), HasSubstr("WAV")));
  EXPECT_THAT(scp_error("u2 raw.ark:1234"), HasSubstr("wav.scp:2: 'raw.ark:1234' lies within an archive"));
  EXPECT_THAT(scp_error("u1 /b.wav"), HasSubstr("wav.scp:2: recording 'u1' was there before"));
  EXPECT_THAT(scp_error("u2"), HasSubstr("wav.scp:2: no path"));
  folder_.Write("wav.scp", "u1 /a.wav\n");
  folder_.Write("text", "u1 A\nu9 B\n");
  EXPECT_THAT(LoadError(""), HasSubstr("text:2: utterance 'u9' is not in wav.scp"));
  folder_.Write("text", "u1 A\n");
  folder_.Write("utt2dur", "u1 long\n");
  EXPECT_THAT(LoadError(""), HasSubstr("utt2dur:1: 'long' is no number"));
  folder_.Write("segments", "s1 u1 3 2\n");
  EXPECT_THAT(LoadError(""), HasSubstr("segments:1: from 3 to 2 s"));
  folder_.Write("segments", "s1 u7 1 2\n");
  EXPECT_THAT(LoadError(""), HasSubstr("segments:1: recording 'u7' is not in wav.scp"));
  folder_.Write("segments", "s1 u1 1\n");
  EXPECT_THAT(LoadError(""), HasSubstr("segments:1: expected <utterance> <recording> <start> <end>"));
}

TEST_F(ManifestTest, WritesWhatItReads) {
  const std::vector<Utterance> utterances = {{"a", folder_.Path("wav/a.wav"), 0, 1.25, "ZOË \"Q\"", "s", "train"},
                                             {"b", "/far/b.wav", 0.125, -1, "", "", ""}};
  WriteManifest(folder_.Path("m.jsonl"), utterances);
  EXPECT_EQ(LoadManifest(folder_.Path("m.jsonl")), utterances);
  EXPECT_THAT(ReadFile(folder_.Path("m.jsonl")), HasSubstr(R"("audio_filepath":"wav/a.wav")"));
  // Moved as a whole, the folder still works.
  fs::create_directories(folder_.Path("moved"));
  fs::rename(folder_.Path("m.jsonl"), folder_.Path("moved/m.jsonl"));
  EXPECT_EQ(LoadManifest(folder_.Path("moved/m.jsonl"))[0].audio_path, folder_.Path("moved/wav/a.wav"));
}

TEST_F(ManifestTest, TextThatIsNotUtf8IsMended) {
  WriteManifest(folder_.Path("m.jsonl"), {{"a", "/a.wav", 0, 1, "A\xFFZ", "", ""}});
  EXPECT_EQ(LoadManifest(folder_.Path("m.jsonl"))[0].text, "A\uFFFDZ");
}

TEST_F(ManifestTest, DurationsAreProbedWhereTheManifestIsSilent) {
  const std::string tone = folder_.WriteTone("a.wav", 1.5);
  const std::vector<double> durations_s =
      Durations({{"a", tone, 0.5, -1}, {"b", tone, 0, 7}, {"c", folder_.Path("none.wav"), 0, -1}});
  EXPECT_DOUBLE_EQ(durations_s[0], 1.0);
  EXPECT_DOUBLE_EQ(durations_s[1], 7.0);
  EXPECT_DOUBLE_EQ(durations_s[2], -1.0);
}

}  // namespace
}  // namespace earshot
