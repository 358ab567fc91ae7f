#include "src/stream/writers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;

Transcript TwoSegments() {
  Transcript transcript;
  transcript.text = "rub out yes";
  transcript.duration_s = 3723.5;
  transcript.segments = {{1.2344, 2.5, "rub out", {{"rub", 1.2344, 1.5, 0.91234f}, {"out", 1.75, 2.5, 0.5f}}},
                         {3723.0, 3723.1, "yes", {{"yes", 3723.0, 3723.1, 1.0f}}}};
  return transcript;
}

TEST(Writers, Txt) { EXPECT_EQ(FormatTranscript(TwoSegments(), OutputFormat::kTxt, "a"), "rub out yes\n"); }

TEST(Writers, Srt) {
  // The last cue lasts 0.1 s and is held for 0.8 s.
  EXPECT_EQ(FormatTranscript(TwoSegments(), OutputFormat::kSrt, "a"),
            "1\n00:00:01,234 --> 00:00:02,500\nrub out\n\n"
            "2\n01:02:03,000 --> 01:02:03,800\nyes\n");
}

TEST(Writers, Vtt) {
  EXPECT_EQ(FormatTranscript(TwoSegments(), OutputFormat::kVtt, "a"),
            "WEBVTT\n\n00:00:01.234 --> 00:00:02.500\nrub out\n\n01:02:03.000 --> 01:02:03.800\nyes\n");
}

TEST(Writers, Ctm) {
  EXPECT_EQ(
      FormatTranscript(TwoSegments(), OutputFormat::kCtm, "my talk"),
      "my_talk 1 1.234 0.266 rub 0.9123\nmy_talk 1 1.750 0.750 out 0.5000\nmy_talk 1 3723.000 0.100 yes 1.0000\n");
}

TEST(Writers, Json) {
  const auto json = nlohmann::json::parse(FormatTranscript(TwoSegments(), OutputFormat::kJson, "a.wav"));
  EXPECT_EQ(json.at("name"), "a.wav");
  EXPECT_EQ(json.at("text"), "rub out yes");
  EXPECT_EQ(json.at("duration"), 3723.5);
  ASSERT_EQ(json.at("segments").size(), 2U);
  const auto& first = json.at("segments").at(0);
  EXPECT_EQ(first.at("text"), "rub out");
  EXPECT_EQ(first.at("start"), 1.234);
  EXPECT_EQ(first.at("end"), 2.5);
  EXPECT_EQ(first.at("words").at(0).at("word"), "rub");
  EXPECT_EQ(first.at("words").at(0).at("confidence"), 0.9123);
  EXPECT_EQ(first.at("words").at(1).at("start"), 1.75);
}

TEST(Writers, AnEmptyTranscriptGivesValidFiles) {
  Transcript empty;
  empty.duration_s = 2;
  EXPECT_EQ(FormatTranscript(empty, OutputFormat::kTxt, "a"), "\n");
  EXPECT_EQ(FormatTranscript(empty, OutputFormat::kSrt, "a"), "");
  EXPECT_EQ(FormatTranscript(empty, OutputFormat::kVtt, "a"), "WEBVTT\n");
  EXPECT_EQ(FormatTranscript(empty, OutputFormat::kCtm, "a"), "");
  const auto json = nlohmann::json::parse(FormatTranscript(empty, OutputFormat::kJson, "a"));
  EXPECT_EQ(json.at("text"), "");
  EXPECT_TRUE(json.at("segments").is_array());
  EXPECT_EQ(json.at("segments").size(), 0U);
}

TEST(Writers, KeepsUtf8AndReplacesWhatIsNone) {
  Transcript transcript;
  transcript.text = "grüße \"日本\" \xff";
  transcript.segments = {{0, 1, transcript.text, {{"grüße\n-->", 0, 0.5, 1}, {"\xff<b>&", 0.5, 1, 1}}}};
  const std::string json = FormatTranscript(transcript, OutputFormat::kJson, "a");
  EXPECT_THAT(json, HasSubstr("grüße \\\"日本\\\""));
  EXPECT_EQ(nlohmann::json::parse(json).at("text"), "grüße \"日本\" \uFFFD");
  EXPECT_THAT(FormatTranscript(transcript, OutputFormat::kTxt, "a"), HasSubstr("日本\" \uFFFD\n"));
  EXPECT_THAT(FormatTranscript(transcript, OutputFormat::kVtt, "a"),
              HasSubstr("\ngrüße --&gt; \uFFFD&lt;b&gt;&amp;\n"));
  EXPECT_THAT(FormatTranscript(transcript, OutputFormat::kCtm, "a"), HasSubstr(" grüße_--> "));
}

TEST(Writers, ASegmentWithoutWordsIsSplitByItsText) {
  Transcript transcript;
  std::string text;
  for (int i = 0; i < 30; ++i) text += "words ";
  transcript.segments = {{10, 20, text, {}}};
  const std::string srt = FormatTranscript(transcript, OutputFormat::kSrt, "a");
  EXPECT_THAT(srt, HasSubstr("1\n00:00:10,000 --> "));
  EXPECT_THAT(srt, HasSubstr("\n3\n"));  // 30 words of 5 letters in lines of 7, cues of 14
}

struct ReadCue {
  int64_t start_ms, end_ms;
  std::vector<std::string> lines;
};

// A reader of SubRip of its own, as strict as players are.
std::vector<ReadCue> ReadSrt(const std::string& srt) {
  std::vector<ReadCue> cues;
  std::istringstream in(srt);
  std::string line;
  while (std::getline(in, line)) {
    EXPECT_EQ(line, std::to_string(cues.size() + 1));
    std::getline(in, line);
    int h[2], m[2], s[2], ms[2];
    EXPECT_EQ(std::sscanf(line.c_str(), "%2d:%2d:%2d,%3d --> %2d:%2d:%2d,%3d", &h[0], &m[0], &s[0], &ms[0], &h[1],
                          &m[1], &s[1], &ms[1]),
              8)
        << line;
    ReadCue cue;
    cue.start_ms = ((h[0] * 60LL + m[0]) * 60 + s[0]) * 1000 + ms[0];
    cue.end_ms = ((h[1] * 60LL + m[1]) * 60 + s[1]) * 1000 + ms[1];
    while (std::getline(in, line) && !line.empty()) cue.lines.push_back(line);
    cues.push_back(std::move(cue));
  }
  return cues;
}

TEST(Writers, CuesAreReadableWhateverTheWords) {
  Random random(11);
  for (int round = 0; round < 100; ++round) {
    Transcript transcript;
    double now_s = 0;
    size_t num_words = 0;
    for (int64_t n = random.Index(6); n >= 0; --n) {
      Segment segment;
      for (int64_t w = random.Index(60); w >= 0; --w, ++num_words) {
        const double end_s = now_s + random.Uniform(0.02, 0.6);
        segment.words.push_back({std::string(static_cast<size_t>(1 + random.Index(12)), 'w'), now_s, end_s, 1});
        now_s = end_s + random.Uniform(0, 0.3);
      }
      segment.start_s = segment.words.front().start_s;
      segment.end_s = segment.words.back().end_s;
      transcript.segments.push_back(std::move(segment));
    }
    int64_t last_end_ms = 0;
    size_t shown = 0;
    for (const ReadCue& cue : ReadSrt(FormatTranscript(transcript, OutputFormat::kSrt, "a"))) {
      EXPECT_GE(cue.start_ms, last_end_ms) << "cues overlap";
      EXPECT_GE(cue.end_ms - cue.start_ms, 800);
      EXPECT_LE(cue.end_ms - cue.start_ms, 7000);
      EXPECT_LE(cue.lines.size(), 2U);
      for (const std::string& line : cue.lines) {
        EXPECT_LE(line.size(), 42U) << line;
        shown += static_cast<size_t>(std::count(line.begin(), line.end(), ' ')) + 1;
      }
      last_end_ms = cue.end_ms;
    }
    EXPECT_EQ(shown, num_words) << "round " << round;
  }
}

TEST(Writers, FormatsHaveNames) {
  for (const char* name : {"txt", "json", "srt", "vtt", "ctm"})
    EXPECT_EQ(Extension(ParseOutputFormat(name)), std::string(".") + name);
  try {
    ParseOutputFormat("jsn");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "output format 'jsn' is not known; did you mean 'json'?");
  }
}

TEST(Writers, NamesTheOptionThatIsWrong) {
  try {
    FormatTranscript({}, OutputFormat::kSrt, "a", {.min_duration_s = 9});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("min_duration_s: 9"));
  }
}

}  // namespace
}  // namespace earshot
