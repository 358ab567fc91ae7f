#include "src/serve/page_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/serve/fake_host.h"

namespace earshot {
namespace {

using ::testing::ElementsAre;

TEST(PageProtocol, TheConfigOpensTheStream) {
  FakeHost host;
  PageProtocol page(host);
  page.OnText(R"({"type": "config", "sample_rate": 48000, "latency_ms": 640, "format": "f32le"})");
  EXPECT_EQ(host.sent.back(),
            R"({"type":"ready","model":"fake","sample_rate":48000.0,"encoder_frame_s":0.04,"latency_ms":640})");
  EXPECT_EQ(host.opened.back().sample_rate, 48000);
  EXPECT_EQ(host.opened.back().latency_ms, 640);
  const float sample = 0.5f;
  page.OnBinary(std::string_view(reinterpret_cast<const char*>(&sample), 4));
  EXPECT_THAT(host.samples, ElementsAre(0.5f));
}

TEST(PageProtocol, AudioAloneIsOfTheModelsRate) {
  FakeHost host;
  PageProtocol page(host);
  page.OnBinary(Pcm(3));
  EXPECT_EQ(host.opened.back().sample_rate, 16000);
  EXPECT_THAT(host.samples, ElementsAre(0.25f, 0.25f, 0.25f));
  EXPECT_THAT(host.TakeTypes(), ElementsAre("ready"));
}

TEST(PageProtocol, TellsWhatTheStreamTells) {
  FakeHost host;
  PageProtocol page(host);
  page.OnBinary(Pcm(1));
  host.sent.clear();
  page.OnUpdate({.finals = {MakeSegment("a b", 1)},
                 .words = MakeWords("c d"),
                 .stable_words = 1,
                 .gate = {0.5f, 1.0f},
                 .gate_start_s = 2.04,
                 .speech = true,
                 .received_s = 3,
                 .recognized_s = 2.5});
  const Json update = host.Take().front();
  EXPECT_EQ(update["type"], "update");
  EXPECT_EQ(update["finals"][0]["text"], "a b");
  EXPECT_EQ(update["finals"][0]["words"][1]["start"], 1.5);
  EXPECT_EQ(update["words"][0]["stable"], true);
  EXPECT_EQ(update["words"][1]["stable"], false);
  EXPECT_EQ(update["gate"], Json::parse("[0.5, 1.0]"));
  EXPECT_EQ(update["gate_start"], 2.04);
  EXPECT_EQ(update["received"], 3.0);
  EXPECT_EQ(update["recognized"], 2.5);
  EXPECT_EQ(update["speech"], true);
  EXPECT_EQ(update["finished"], false);
}

TEST(PageProtocol, CommitsClearsAndEnds) {
  FakeHost host;
  PageProtocol page(host);
  page.OnBinary(Pcm(5));
  page.OnText(R"({"type": "commit"})");
  page.OnText(R"({"type": "clear"})");
  EXPECT_TRUE(host.samples.empty());
  EXPECT_EQ(host.opened.size(), 2u);  // a stream that knows nothing of before
  page.OnText(R"({"type": "end"})");
  EXPECT_THAT(host.calls, ElementsAre("commit", "finish"));
  EXPECT_FALSE(host.close_code);
  page.OnBinary(Pcm(5));  // too late
  EXPECT_TRUE(host.samples.empty());
  page.OnUpdate({.finished = true});
  EXPECT_EQ(host.close_code, CloseCode::kNormal);
}

TEST(PageProtocol, MistakesAreToldAndHaveNoEffect) {
  FakeHost host;
  PageProtocol page(host);
  for (const char* text :
       {"", "{", "[]", R"({"type": "no"})", R"({"type": 3})", R"({"type": "config", "sample_rate": "x"})",
        R"({"type": "config", "sample_rate": 1})", R"({"type": "config", "sample_rate": 1e999})",
        R"({"type": "config", "format": "mp3"})", R"({"type": "config", "latency_ms": -1})"}) {
    page.OnText(text);
    EXPECT_THAT(host.TakeTypes(), ElementsAre("error")) << text;
  }
  EXPECT_TRUE(host.opened.empty());
  page.OnBinary(Pcm(1));
  EXPECT_EQ(host.opened.back().sample_rate, 16000);
  page.OnText(R"({"type": "config"})");
  EXPECT_THAT(host.TakeTypes(), ElementsAre("ready", "error"));
}

TEST(PageProtocol, AFullServiceIsTried) {
  FakeHost host;
  host.full = true;
  PageProtocol page(host);
  page.OnBinary(Pcm(1));
  EXPECT_EQ(host.close_code, CloseCode::kTryAgainLater);
}

TEST(PageProtocol, AFailedStreamIsToldAndClosed) {
  FakeHost host;
  PageProtocol page(host);
  page.OnBinary(Pcm(1));
  page.OnUpdate({.finished = true, .error = "broken"});
  EXPECT_THAT(host.TakeTypes(), ElementsAre("ready", "error"));
  EXPECT_EQ(host.close_code, CloseCode::kInternal);
}

TEST(PageProtocol, ADrainGivesTheLastWords) {
  FakeHost host;
  PageProtocol page(host);
  page.OnBinary(Pcm(1));
  page.OnDrain();
  EXPECT_THAT(host.calls, ElementsAre("finish"));
  page.OnUpdate({.finals = {MakeSegment("last")}, .finished = true});
  EXPECT_EQ(host.Take().back()["finals"][0]["text"], "last");
  EXPECT_EQ(host.close_code, CloseCode::kGoingAway);
  FakeHost silent;
  PageProtocol(silent).OnDrain();
  EXPECT_EQ(silent.close_code, CloseCode::kGoingAway);
}

}  // namespace
}  // namespace earshot
