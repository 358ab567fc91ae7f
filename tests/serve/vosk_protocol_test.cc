#include "src/serve/vosk_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/serve/fake_host.h"

namespace earshot {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(VoskProtocol, EveryMessageOfAudioHasOneAnswer) {
  FakeHost host;
  VoskProtocol vosk(host);
  vosk.OnText(R"({"config": {"sample_rate": 8000, "words": 1}})");
  EXPECT_THAT(host.sent, IsEmpty());
  vosk.OnBinary(Pcm(800));
  EXPECT_EQ(host.opened.back().sample_rate, 8000);
  EXPECT_THAT(host.sent, ElementsAre(R"({"partial":""})"));
  vosk.OnUpdate({.words = MakeWords("a b"), .recognized_s = 0.1});
  vosk.OnBinary(Pcm(800));
  EXPECT_EQ(host.sent.back(), R"({"partial":"a b"})");
  vosk.OnUpdate({.finals = {MakeSegment("a b")}, .words = MakeWords("c"), .recognized_s = 0.2});
  EXPECT_EQ(host.sent.size(), 2u);  // it waits for a message to answer
  vosk.OnBinary(Pcm(800));
  EXPECT_EQ(host.sent.back(), R"({"result":[{"conf":0.9,"end":0.5,"start":0.0,"word":"a"},)"
                              R"({"conf":0.9,"end":1.0,"start":0.5,"word":"b"}],"text":"a b"})");
  vosk.OnBinary("");
  EXPECT_EQ(host.sent.back(), R"({"partial":"c"})");
  EXPECT_EQ(host.sent.size(), 4u);
}

TEST(VoskProtocol, AnAnswerWaitsWhileRecognitionIsBehind) {
  FakeHost host;
  VoskProtocol vosk(host);
  host.queued_s = 3;
  for (int i = 0; i < 3; ++i) vosk.OnBinary(Pcm(16000));
  EXPECT_THAT(host.sent, ElementsAre(R"({"partial":""})"));  // a second is not yet far behind
  vosk.OnUpdate({.words = MakeWords("a"), .recognized_s = 1.5});
  EXPECT_EQ(host.sent.size(), 1u);
  host.queued_s = 0.5;
  vosk.OnUpdate({.words = MakeWords("a b"), .recognized_s = 2.0});
  EXPECT_THAT(host.sent, ElementsAre(R"({"partial":""})", R"({"partial":"a b"})", R"({"partial":"a b"})"));
}

TEST(VoskProtocol, TheEndGivesAllThatWasNotTold) {
  FakeHost host;
  VoskProtocol vosk(host);
  vosk.OnText(R"({"config": {"words": 0}})");
  vosk.OnBinary(Pcm(10));
  vosk.OnUpdate({.finals = {MakeSegment("a"), MakeSegment("b")}});
  vosk.OnText(R"({"eof": 1})");
  EXPECT_THAT(host.calls, ElementsAre("finish"));
  vosk.OnUpdate({.finals = {MakeSegment("c")}, .finished = true});
  EXPECT_EQ(host.sent.back(), R"({"text":"a b c"})");
  EXPECT_EQ(host.close_code, CloseCode::kNormal);
}

TEST(VoskProtocol, AResetGivesAllSoFarAndGoesOn) {
  FakeHost host;
  VoskProtocol vosk(host);
  vosk.OnText(R"({"reset": 1})");
  EXPECT_EQ(host.Take().back()["text"], "") << "nothing was sent yet";
  vosk.OnText(R"({"config": {"words": 0}})");
  host.queued_s = 3;
  vosk.OnBinary(Pcm(64000));
  vosk.OnText(R"({"reset" : 1})");
  EXPECT_THAT(host.calls, ElementsAre("commit"));
  EXPECT_THAT(host.sent, IsEmpty());
  vosk.OnUpdate({.finals = {MakeSegment("a b")}, .recognized_s = 4, .committed = true});
  EXPECT_THAT(host.sent, ElementsAre(R"({"partial":""})", R"({"text":"a b"})"));
  host.queued_s = 0;
  vosk.OnBinary(Pcm(800));
  EXPECT_EQ(host.sent.back(), R"({"partial":""})");
  EXPECT_FALSE(host.close_code);
}

TEST(VoskProtocol, AlternativesAreTheBestAlone) {
  FakeHost host;
  VoskProtocol vosk(host);
  vosk.OnText(R"({"config": {"words": 0, "max_alternatives": 3}})");
  vosk.OnBinary(Pcm(800));
  EXPECT_EQ(host.sent.back(), R"({"partial":""})");
  vosk.OnUpdate({.finals = {MakeSegment("a b")}, .recognized_s = 0.2});
  vosk.OnBinary(Pcm(800));
  EXPECT_EQ(host.sent.back(), R"({"alternatives":[{"confidence":0.9,"text":"a b"}]})");
  vosk.OnText(R"({"config": {"max_alternatives": 0}})");
  vosk.OnText(R"({"eof": 1})");
  vosk.OnUpdate({.finished = true});
  EXPECT_EQ(host.sent.back(), R"({"text":""})");
}

TEST(VoskProtocol, TheEndOfNothingIsAnEmptyText) {
  FakeHost host;
  VoskProtocol vosk(host);
  vosk.OnText(R"({"eof": 1})");
  vosk.OnUpdate({.finished = true});
  EXPECT_THAT(host.sent, ElementsAre(R"({"text":""})"));
}

TEST(VoskProtocol, MistakesAreTold) {
  FakeHost host;
  VoskProtocol vosk(host);
  for (const char* text : {"", "x", R"({"a": 1})", R"({"config": 3})", R"({"config": {"sample_rate": 1}})",
                           R"({"config": {"sample_rate": "x"}})"}) {
    vosk.OnText(text);
    ASSERT_EQ(host.sent.size(), 1u) << text;
    EXPECT_TRUE(host.Take().front().contains("error")) << text;
  }
  vosk.OnBinary(Pcm(1));
  EXPECT_EQ(host.opened.back().sample_rate, 16000);
}

TEST(VoskProtocol, ADrainGivesTheLastResult) {
  FakeHost host;
  VoskProtocol vosk(host);
  vosk.OnBinary(Pcm(1));
  vosk.OnDrain();
  vosk.OnUpdate({.finals = {MakeSegment("x")}, .finished = true});
  EXPECT_EQ(host.Take().back()["text"], "x");
  EXPECT_EQ(host.close_code, CloseCode::kGoingAway);
}

}  // namespace
}  // namespace earshot
