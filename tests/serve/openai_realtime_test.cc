#include "src/serve/openai_realtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/serve/codes.h"
#include "tests/serve/fake_host.h"

namespace earshot {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr const char* kDelta = "conversation.item.input_audio_transcription.delta";
constexpr const char* kCompleted = "conversation.item.input_audio_transcription.completed";

std::string Event(const std::string& type, Json fields = Json::object()) {
  fields["type"] = type;
  return ToText(fields);
}

// A session in which the client commits.
class RealtimeTest : public ::testing::Test {
 protected:
  void Begin(bool server_vad, RealtimeDialect dialect = RealtimeDialect::kGeneral) {
    realtime_ = std::make_unique<OpenAiRealtime>(host_, dialect);
    realtime_->OnOpen();
    Json detection;
    if (server_vad) detection = {{"type", "server_vad"}};
    Update({{"audio", {{"input", {{"turn_detection", detection}}}}}});
    host_.sent.clear();
  }
  void Update(const Json& session) { realtime_->OnText(Event("session.update", {{"session", session}})); }
  void Append(size_t samples) {
    realtime_->OnText(Event("input_audio_buffer.append", {{"audio", EncodeBase64(Pcm(samples))}}));
  }
  void Commit() { realtime_->OnText(Event("input_audio_buffer.commit")); }

  FakeHost host_;
  std::unique_ptr<OpenAiRealtime> realtime_;
};

TEST_F(RealtimeTest, BeginsWithTheSession) {
  OpenAiRealtime general(host_, RealtimeDialect::kGeneral);
  general.OnOpen();
  const Json created = host_.Take().front();
  EXPECT_EQ(created["type"], "session.created");
  EXPECT_EQ(created["session"]["type"], "transcription");
  EXPECT_EQ(created["session"]["audio"]["input"]["format"], Json::parse(R"({"type":"audio/pcm","rate":24000})"));
  EXPECT_EQ(created["session"]["audio"]["input"]["transcription"]["model"], "fake");
  OpenAiRealtime beta(host_, RealtimeDialect::kBeta);
  beta.OnOpen();
  EXPECT_THAT(host_.TakeTypes(), ElementsAre("transcription_session.created"));
}

TEST_F(RealtimeTest, BothSpellingsSetTheFormat) {
  Begin(false);
  Update({{"audio", {{"input", {{"format", {{"type", "audio/pcmu"}}}}}}}});
  EXPECT_EQ(host_.Take().back()["session"]["audio"]["input"]["format"]["type"], "audio/pcmu");
  Append(4);
  EXPECT_EQ(host_.opened.back().sample_rate, 8000);
  EXPECT_EQ(host_.samples.size(), 8u);
  realtime_->OnText(Event("input_audio_buffer.clear"));
  realtime_->OnText(Event("transcription_session.update", {{"session", {{"input_audio_format", "pcm16"}}}}));
  const Json updated = host_.Take().back();
  EXPECT_EQ(updated["type"], "transcription_session.updated");
  EXPECT_EQ(updated["session"]["input_audio_format"], "pcm16");
  Append(4);
  EXPECT_EQ(host_.opened.back().sample_rate, 24000);
  EXPECT_EQ(host_.samples.size(), 4u);
}

TEST_F(RealtimeTest, AnItemIsWhatLiesBetweenCommits) {
  Begin(false);
  Append(2400);
  EXPECT_THAT(host_.sent, IsEmpty());
  realtime_->OnUpdate({.words = MakeWords("a b c"), .stable_words = 2});
  realtime_->OnUpdate({.words = MakeWords("a b x"), .stable_words = 2});
  Json delta = host_.Take().front();
  EXPECT_EQ(delta["type"], kDelta);
  EXPECT_EQ(delta["delta"], "a b");
  Commit();
  const std::vector<Json> committed = host_.Take();
  ASSERT_EQ(committed.size(), 3u);
  EXPECT_EQ(committed[0]["type"], "input_audio_buffer.committed");
  EXPECT_EQ(committed[0]["item_id"], delta["item_id"]);
  EXPECT_TRUE(committed[0]["previous_item_id"].is_null());
  EXPECT_EQ(committed[1]["type"], "conversation.item.added");
  EXPECT_EQ(committed[1]["item"]["id"], delta["item_id"]);
  EXPECT_EQ(committed[2]["type"], "conversation.item.done");
  EXPECT_THAT(host_.calls, ElementsAre("commit"));
  realtime_->OnUpdate(
      {.finals = {MakeSegment("a b d")}, .words = MakeWords("e"), .stable_words = 1, .committed = true});
  const std::vector<Json> done = host_.Take();
  ASSERT_EQ(done.size(), 3u);
  EXPECT_EQ(done[0]["delta"], " d");
  EXPECT_EQ(done[1]["type"], kCompleted);
  EXPECT_EQ(done[1]["transcript"], "a b d");
  EXPECT_EQ(done[1]["usage"]["seconds"], 0.1);
  // A word behind the commit is the next item's.
  EXPECT_EQ(done[2]["delta"], "e");
  EXPECT_NE(done[2]["item_id"], delta["item_id"]);
}

TEST_F(RealtimeTest, CommitsThatWaitAreAnsweredInOrder) {
  Begin(false);
  Append(100);
  Commit();
  Append(100);
  Commit();
  const std::vector<Json> committed = host_.Take();
  EXPECT_EQ(committed[3]["previous_item_id"], committed[0]["item_id"]);
  realtime_->OnUpdate({.finals = {MakeSegment("a")}, .committed = true});
  realtime_->OnUpdate({.finals = {MakeSegment("b")}, .committed = true});
  std::vector<std::string> transcripts;
  for (const Json& event : host_.Take()) {
    if (event["type"] == kCompleted) transcripts.push_back(event["transcript"]);
  }
  EXPECT_THAT(transcripts, ElementsAre("a", "b"));
}

TEST_F(RealtimeTest, AnEmptyBufferCannotBeCommitted) {
  Begin(false);
  Commit();
  realtime_->OnText(Event("input_audio_buffer.append", {{"audio", ""}}));
  realtime_->OnText(Event("input_audio_buffer.append", {{"audio", EncodeBase64("x")}}));  // half a sample
  Commit();
  const std::vector<Json> errors = host_.Take();
  ASSERT_EQ(errors.size(), 2u);
  for (const Json& error : errors) EXPECT_EQ(error["error"]["code"], "input_audio_buffer_commit_empty");
  EXPECT_THAT(host_.opened, IsEmpty());
}

TEST_F(RealtimeTest, SilenceGivesAnEmptyTranscript) {
  Begin(false);
  Append(1);
  Commit();
  host_.sent.clear();
  realtime_->OnUpdate({.committed = true});
  const std::vector<Json> events = host_.Take();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["transcript"], "");
}

TEST_F(RealtimeTest, WhatIsClearedIsNeverTold) {
  Begin(false);
  Append(100);
  realtime_->OnText(Event("input_audio_buffer.clear"));
  EXPECT_THAT(host_.TakeTypes(), ElementsAre("input_audio_buffer.cleared"));
  EXPECT_EQ(host_.stream(), nullptr);  // so that no update of before can come
  // While a commit waits, what was appended behind it goes the same way.
  Append(100);
  Commit();
  Append(100);
  realtime_->OnText(Event("input_audio_buffer.clear"));
  Append(100);
  Commit();
  host_.sent.clear();
  realtime_->OnUpdate({.finals = {MakeSegment("a")}, .committed = true});
  realtime_->OnUpdate({.words = MakeWords("secret"), .stable_words = 1});
  realtime_->OnUpdate({.finals = {MakeSegment("secret")}, .committed = true});
  realtime_->OnUpdate({.finals = {MakeSegment("b")}, .committed = true});
  std::vector<std::string> transcripts;
  for (const Json& event : host_.Take()) {
    EXPECT_EQ(ToText(event).find("secret"), std::string::npos) << event;
    if (event["type"] == kCompleted) transcripts.push_back(event["transcript"]);
  }
  EXPECT_THAT(transcripts, ElementsAre("a", "b"));
}

TEST_F(RealtimeTest, TheServerDetectsTurns) {
  Begin(true);
  Append(24000);
  realtime_->OnUpdate({.recognized_s = 0.5});
  EXPECT_THAT(host_.sent, IsEmpty());
  realtime_->OnUpdate(
      {.words = MakeWords("a"), .stable_words = 1, .speech = true, .speech_since_s = 1, .recognized_s = 1.5});
  const std::vector<Json> started = host_.Take();
  ASSERT_EQ(started.size(), 2u);
  EXPECT_EQ(started[0]["type"], "input_audio_buffer.speech_started");
  EXPECT_EQ(started[0]["audio_start_ms"], 700);  // 300 ms of padding
  EXPECT_EQ(started[1]["type"], kDelta);
  realtime_->OnUpdate({.words = MakeWords("a"), .stable_words = 1, .recognized_s = 1.9});
  EXPECT_THAT(host_.sent, IsEmpty());  // not yet long enough
  realtime_->OnUpdate({.words = MakeWords("a"), .stable_words = 1, .recognized_s = 2.0});
  EXPECT_THAT(host_.TakeTypes(), ElementsAre("input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
                                             "conversation.item.added", "conversation.item.done"));
  EXPECT_THAT(host_.calls, ElementsAre("commit"));
  realtime_->OnUpdate({.finals = {MakeSegment("a")}, .committed = true});
  EXPECT_THAT(host_.TakeTypes(), ElementsAre(kCompleted));
}

TEST_F(RealtimeTest, AnEndpointEndsATurnWithoutAGate) {
  Begin(true, RealtimeDialect::kBeta);
  Append(24000);
  realtime_->OnUpdate({.finals = {MakeSegment("a b", 1)}, .recognized_s = 3});
  EXPECT_THAT(host_.TakeTypes(), ElementsAre("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
                                             "input_audio_buffer.committed", "conversation.item.created", kDelta));
  realtime_->OnUpdate({.committed = true});
  const std::vector<Json> events = host_.Take();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["transcript"], "a b");
}

TEST_F(RealtimeTest, MistakesNameTheirEventAndHaveNoEffect) {
  Begin(false);
  const std::pair<std::string, std::string> mistakes[] = {
      {"", "invalid_event"},
      {"{", "invalid_event"},
      {Event("input_audio_buffer.append"), "missing_required_parameter"},
      {Event("input_audio_buffer.append", {{"audio", "!"}}), "invalid_value"},
      {Event("input_audio_buffer.append", {{"audio", 3}}), "invalid_event"},
      {Event("response.create"), "invalid_value"},
      {Event("session.update", {{"session", {{"input_audio_format", "mp3"}}}}), "invalid_value"},
      {Event("session.update", {{"session", {{"turn_detection", 3}}}}), "invalid_value"},
      {Event("session.update", {{"session", {{"input_audio_transcription", {{"model", "../x"}}}}}}), "model_not_found"},
      {Event("session.update", {{"session", {{"audio", {{"input", {{"format", {{"rate", 1}}}}}}}}}}), "invalid_value"},
  };
  for (const auto& [text, code] : mistakes) {
    realtime_->OnText(text);
    const std::vector<Json> events = host_.Take();
    ASSERT_EQ(events.size(), 1u) << text;
    EXPECT_EQ(events[0]["error"]["code"], code) << text;
  }
  realtime_->OnBinary("x");
  EXPECT_THAT(host_.TakeTypes(), ElementsAre("error"));
  realtime_->OnText(Event("what", {{"event_id", "mine"}}));
  EXPECT_EQ(host_.Take().front()["error"]["event_id"], "mine");
  Append(1);
  EXPECT_EQ(host_.opened.back().sample_rate, 24000);
  Update({{"audio", {{"input", {{"format", {{"type", "audio/pcmu"}}}}}}}});
  EXPECT_EQ(host_.Take().front()["error"]["code"], "invalid_state");
}

TEST_F(RealtimeTest, ADrainCompletesWhatWasSaid) {
  Begin(false);
  Append(100);
  Commit();
  Append(100);
  realtime_->OnDrain();
  realtime_->OnDrain();
  EXPECT_THAT(host_.calls, ElementsAre("commit", "finish"));
  host_.sent.clear();
  realtime_->OnUpdate({.finals = {MakeSegment("a")}, .committed = true});
  realtime_->OnUpdate({.finals = {MakeSegment("b")}, .finished = true});
  std::vector<std::string> transcripts;
  for (const Json& event : host_.Take()) {
    if (event["type"] == kCompleted) transcripts.push_back(event["transcript"]);
  }
  EXPECT_THAT(transcripts, ElementsAre("a", "b"));
  EXPECT_EQ(host_.close_code, CloseCode::kGoingAway);
}

TEST_F(RealtimeTest, AFailedStreamNamesItsItem) {
  Begin(false);
  Append(100);
  realtime_->OnUpdate({.finished = true, .error = "broken"});
  EXPECT_THAT(host_.TakeTypes(), ElementsAre("conversation.item.input_audio_transcription.failed"));
  EXPECT_EQ(host_.close_code, CloseCode::kInternal);
}

}  // namespace
}  // namespace earshot
