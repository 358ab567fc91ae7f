#include "src/serve/wyoming_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/random.h"
#include "tests/serve/fake_host.h"

namespace earshot {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string Bytes(const std::string& type, const Json& data = Json::object(), const std::string& payload = "") {
  return FormatWyomingEvent({.type = type, .data = data, .payload = payload});
}

const Json kFormat = {{"rate", 16000}, {"width", 2}, {"channels", 1}};

std::vector<WyomingEvent> TakeEvents(FakeHost& host) {
  WyomingReader reader;
  for (const std::string& bytes : std::exchange(host.sent, {})) reader.Append(bytes);
  std::vector<WyomingEvent> events;
  while (auto event = reader.Next()) events.push_back(std::move(*event));
  return events;
}

std::vector<std::string> TakeTypes(FakeHost& host) {
  std::vector<std::string> types;
  for (const WyomingEvent& event : TakeEvents(host)) types.push_back(event.type);
  return types;
}

TEST(WyomingReader, EverySplitGivesTheSameEvents) {
  const std::string bytes = Bytes("a", {{"x", 1}}, "12\n3") + Bytes("b") + Bytes("c", Json::object(), "{\"type\"");
  for (size_t split = 0; split <= bytes.size(); ++split) {
    WyomingReader reader;
    std::vector<std::string> seen;
    for (const std::string& piece : {bytes.substr(0, split), bytes.substr(split)}) {
      reader.Append(piece);
      while (auto event = reader.Next()) seen.push_back(event->type + ToText(event->data) + event->payload);
    }
    EXPECT_THAT(seen, ElementsAre("a{\"x\":1}12\n3", "b{}", "c{}{\"type\"")) << split;
  }
}

TEST(WyomingReader, DataInTheLineCountsToo) {
  WyomingReader reader;
  reader.Append("{\"type\": \"a\", \"data\": {\"x\": 1, \"y\": 1}, \"data_length\": 8}\n{\"y\": 2}");
  EXPECT_EQ(ToText(reader.Next()->data), "{\"x\":1,\"y\":2}");
}

TEST(WyomingReader, RefusesWhatIsNoEvent) {
  for (const std::string bytes :
       {"\n", "x\n", "{}\n", "[]\n", "{\"type\": 3}\n", "{\"type\": \"a\", \"data_length\": -1}\n",
        "{\"type\": \"a\", \"payload_length\": 1e12}\n", "{\"type\": \"a\", \"payload_length\": \"1\"}\n",
        "{\"type\": \"a\", \"data_length\": 2}\n[]"}) {
    WyomingReader reader;
    reader.Append(bytes);
    EXPECT_THROW(reader.Next(), Error) << bytes;
  }
  WyomingReader reader;
  reader.Append(std::string(WyomingReader::kMaxLine + 1, ' '));
  EXPECT_THROW(reader.Next(), Error);
}

TEST(WyomingProtocol, DescribesItself) {
  FakeHost host;
  WyomingProtocol wyoming(host);
  wyoming.OnBinary(Bytes("describe") + Bytes("ping", {{"text", "hi"}}));
  const std::vector<WyomingEvent> events = TakeEvents(host);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].type, "info");
  const Json program = events[0].data["asr"][0];
  EXPECT_EQ(program["supports_transcript_streaming"], true);
  EXPECT_EQ(program["models"][0]["name"], "fake");
  EXPECT_EQ(program["models"][0]["languages"], Json::array({"en"}));
  EXPECT_EQ(events[1].type, "pong");
  EXPECT_EQ(events[1].data["text"], "hi");
}

TEST(WyomingProtocol, TranscribesOneUtteranceAfterTheOther) {
  FakeHost host;
  WyomingProtocol wyoming(host);
  for (int round = 0; round < 2; ++round) {
    wyoming.OnBinary(Bytes("transcribe", {{"language", "en"}}) + Bytes("audio-start", kFormat));
    EXPECT_THAT(TakeTypes(host), ElementsAre("transcript-start"));
    wyoming.OnBinary(Bytes("audio-chunk", kFormat, Pcm(3)));
    EXPECT_EQ(host.samples.size(), 3u);
    wyoming.OnUpdate({.words = MakeWords("a b"), .stable_words = 1});
    EXPECT_EQ(TakeEvents(host).at(0).data["text"], "a");
    wyoming.OnBinary(Bytes("audio-stop"));
    EXPECT_EQ(host.calls.back(), "finish");
    wyoming.OnUpdate({.finals = {MakeSegment("a c")}, .finished = true});
    const std::vector<WyomingEvent> events = TakeEvents(host);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[0].data["text"], " c");
    EXPECT_EQ(events[1].type, "transcript");
    EXPECT_EQ(events[1].data["text"], "a c");
    EXPECT_EQ(events[2].type, "transcript-stop");
    EXPECT_EQ(host.stream(), nullptr);
  }
}

TEST(WyomingProtocol, TakesTwoChannelsOfAnyRate) {
  FakeHost host;
  WyomingProtocol wyoming(host);
  const Json format = {{"rate", 44100}, {"width", 2}, {"channels", 2}};
  wyoming.OnBinary(Bytes("audio-chunk", format, Pcm(4)));  // without audio-start
  EXPECT_EQ(host.opened.back().sample_rate, 44100);
  EXPECT_THAT(host.samples, ElementsAre(0.25f, 0.25f));
}

TEST(WyomingProtocol, NothingSaidIsAnEmptyTranscript) {
  FakeHost host;
  WyomingProtocol wyoming(host);
  wyoming.OnBinary(Bytes("audio-stop"));
  EXPECT_THAT(TakeTypes(host), ElementsAre("transcript-start", "transcript", "transcript-stop"));
}

TEST(WyomingProtocol, MistakesEndTheConnection) {
  const std::string mistakes[] = {
      "GET / HTTP/1.1\r\n\r\n",
      Bytes("audio-start", {{"rate", 1}}),
      Bytes("audio-start", {{"width", 4}}),
      Bytes("audio-start", {{"channels", 6}}),
      Bytes("audio-start", {{"rate", "x"}}),
      Bytes("audio-start", kFormat) + Bytes("audio-chunk", {{"rate", 8000}}, "ab"),
  };
  for (const std::string& bytes : mistakes) {
    FakeHost host;
    WyomingProtocol wyoming(host);
    wyoming.OnBinary(bytes);
    EXPECT_EQ(host.close_code, CloseCode::kPolicy) << bytes;
    EXPECT_EQ(TakeEvents(host).back().type, "error") << bytes;
  }
  FakeHost host;
  WyomingProtocol wyoming(host);
  wyoming.OnBinary(Bytes("transcribe", {{"name", "/etc/passwd"}}));
  EXPECT_EQ(TakeEvents(host).back().data["code"], "model-not-found");
  wyoming.OnBinary(Bytes("of-the-future"));
  EXPECT_THAT(host.sent, IsEmpty());
}

TEST(WyomingProtocol, AFullServiceSaysSo) {
  FakeHost host;
  host.full = true;
  WyomingProtocol wyoming(host);
  wyoming.OnBinary(Bytes("audio-start", kFormat) + Bytes("audio-chunk", kFormat, "ab") + Bytes("audio-stop"));
  EXPECT_EQ(TakeEvents(host).at(0).data["code"], "busy");
  EXPECT_EQ(host.close_code, CloseCode::kTryAgainLater);
}

TEST(WyomingProtocol, GarbageIsAnErrorAndNothingElse) {
  Random random(1);
  const std::string good = Bytes("audio-start", kFormat) + Bytes("audio-chunk", kFormat, Pcm(8)) + Bytes("audio-stop");
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 4; ++i)
      bytes[static_cast<size_t>(random.Index(static_cast<int64_t>(bytes.size())))] =
          static_cast<char>(random.Index(256));
    FakeHost host;
    WyomingProtocol wyoming(host);
    wyoming.OnBinary(bytes);
  }
}

}  // namespace
}  // namespace earshot
