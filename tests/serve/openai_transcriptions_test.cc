#include "src/serve/openai_transcriptions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "src/serve/json.h"
#include "tests/serve/fake_host.h"
#include "tests/support/temp_folder.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const ServiceInfo kInfo = {.model = "fake", .language = "en"};

std::string Field(const std::string& name, const std::string& value) {
  return "--XX\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n";
}
std::string File(const std::string& bytes, const std::string& filename = "a.wav") {
  return "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + filename + "\"\r\n\r\n" + bytes +
         "\r\n";
}

TranscriptionRequest Parse(const std::string& parts, const UploadLimits& limits = {}) {
  TranscriptionForm form("multipart/form-data; boundary=XX", kInfo, limits);
  form.Append(parts + "--XX--\r\n");
  return form.Finish();
}

// The status and code of the refusal.
std::string FaultOf(const std::string& parts, const UploadLimits& limits = {}) {
  try {
    Parse(parts, limits);
  } catch (const HttpFault& fault) {
    const Json error = Json::parse(fault.response.body)["error"];
    return fmt::format("{} {}", fault.response.status,
                       error["code"].is_null() ? "-" : error["code"].get<std::string>());
  }
  return "none";
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

TEST(TranscriptionForm, TakesAllFields) {
  const TranscriptionRequest request =
      Parse(Field("model", "fake") + Field("response_format", "verbose_json") + File("bytes") +
            Field("timestamp_granularities[]", "word") + Field("timestamp_granularities[]", "segment") +
            Field("temperature", "0.5") + Field("language", "en-US") + Field("prompt", "x") + Field("stream", "false"));
  EXPECT_EQ(request.response_format, "verbose_json");
  EXPECT_TRUE(request.word_times && request.segment_times);
  EXPECT_FALSE(request.stream);
  EXPECT_EQ(ReadAll(request.file->path()), "bytes");
}

TEST(TranscriptionForm, RefusesWhatItCannotDo) {
  EXPECT_EQ(FaultOf(File("x")), "none");
  EXPECT_EQ(FaultOf(Field("model", "fake")), "400 missing_required_parameter");
  EXPECT_EQ(FaultOf(File("")), "400 invalid_value");
  EXPECT_EQ(FaultOf(File("x") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("model", "../fake") + File("x")), "404 model_not_found");
  EXPECT_EQ(FaultOf(Field("response_format", "docx") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("timestamp_granularities[]", "word") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("timestamp_granularities[]", "day") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("temperature", "hot") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("temperature", "nan") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("stream", "maybe") + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf(Field("language", "de") + File("x")), "400 unsupported_language");
  EXPECT_EQ(FaultOf(Field("prompt", std::string(70000, 'a')) + File("x")), "400 invalid_value");
  EXPECT_EQ(FaultOf("--XX\r\nno header\r\n\r\n"), "400 invalid_form");
  EXPECT_EQ(FaultOf(File("12345"), {.max_bytes = 4}), "413 file_too_large");
  EXPECT_EQ(FaultOf(File("1234"), {.max_bytes = 4}), "none");
  EXPECT_EQ(FaultOf(File("x"), {.folder = "/no/such/folder"}), "500 -");
  EXPECT_THROW(TranscriptionForm("application/json", kInfo, {}), HttpFault);
}

TEST(UploadedFile, IsRemovedAndKeepsOnlyAHarmlessEnding) {
  const TempFolder folder;
  const std::pair<const char*, const char*> names[] = {{"talk.MP3", "\\.mp3"},
                                                       {"../../etc/passwd", ""},
                                                       {"a.b.flac", "\\.flac"},
                                                       {"x.tar/../y", ""},
                                                       {"x.", ""},
                                                       {"", ""},
                                                       {"x.w v", ""},
                                                       {"x.averylongending", ""},
                                                       {"x.\xc3\xa9", ""},
                                                       {"x.m4a\n", ""}};
  for (const auto& [name, ending] : names) {
    std::string path;
    {
      UploadedFile file(folder.Path(""), name);
      path = file.path();
      EXPECT_THAT(path, MatchesRegex(folder.Path("") + "/earshot-[A-Za-z0-9]{6}" + ending)) << name;
      file.Append("abc");
      file.Finish();
      EXPECT_EQ(ReadAll(path), "abc");
      struct stat status;
      ASSERT_EQ(stat(path.c_str(), &status), 0);
      EXPECT_EQ(status.st_mode & 0777, 0600u);
    }
    EXPECT_NE(access(path.c_str(), F_OK), 0) << path;
  }
}

TEST(Transcriptions, FormatsAnswers) {
  const Transcript transcript{.text = "a b", .segments = {MakeSegment("a b", 1)}, .duration_s = 2.5};
  const auto format = [&](const std::string& name, bool words = false, bool segments = false) {
    TranscriptionRequest request;
    request.response_format = name;
    request.word_times = words;
    request.segment_times = segments;
    return FormatTranscription(request, transcript, kInfo).body;
  };
  EXPECT_EQ(format("json"), R"({"text":"a b","usage":{"type":"duration","seconds":3.0}})");
  EXPECT_EQ(format("text"), "a b\n");
  EXPECT_EQ(format("srt"), "1\n00:00:01,000 --> 00:00:02,000\na b\n");
  EXPECT_EQ(format("vtt"), "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na b\n");
  const Json verbose = Json::parse(format("verbose_json"));
  EXPECT_EQ(verbose["duration"], 2.5);
  EXPECT_EQ(verbose["language"], "en");
  EXPECT_EQ(verbose["segments"][0]["text"], "a b");
  EXPECT_FALSE(verbose.contains("words"));
  const Json words = Json::parse(format("verbose_json", true));
  EXPECT_EQ(words["words"][1]["start"], 1.5);
  EXPECT_FALSE(words.contains("segments"));
  EXPECT_TRUE(Json::parse(format("verbose_json", true, true)).contains("segments"));
}

TEST(Transcriptions, EventsAreLines) {
  EXPECT_EQ(DeltaEvent("a\nb"), "data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\\nb\"}\n\n");
  EXPECT_EQ(DoneEvent({.text = "a"}), "data: {\"type\":\"transcript.text.done\",\"text\":\"a\"}\n\n");
  EXPECT_THAT(ErrorEvent("x"), HasSubstr("event: error\ndata: {\"error\":{\"message\":\"x\""));
}

}  // namespace
}  // namespace earshot
