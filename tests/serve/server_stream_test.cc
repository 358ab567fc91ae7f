// Live streams over sockets: the three WebSocket protocols and Wyoming, their limits, and the end of the server.
#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/serve/codes.h"
#include "src/serve/wyoming_events.h"
#include "tests/serve/server_fixture.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;

using StreamTest = ServerFixture;

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// The texts of all final segments until the stream has finished.
std::string FinalText(TestWebSocket& socket) {
  std::string text;
  for (;;) {
    const TestWebSocket::Message message = socket.ReadUntil("update");
    if (message.close_code != 0) return text + "?";
    const Json update = message.json();
    for (const Json& segment : update["finals"]) AppendText(text, segment["text"]);
    if (update["finished"]) return text;
  }
}

TEST_F(StreamTest, ThePageGetsItsWords) {
  Begin();
  TestWebSocket socket(port_, "/v1/stream");
  socket.SendText(R"({"type": "config", "sample_rate": 8000})");
  EXPECT_EQ(socket.Read().json()["type"], "ready");
  socket.SendBinary(Sound(2, 8000) + Silence(1, 8000));
  socket.SendBinary(Sound(1.5, 8000));
  socket.SendText(R"({"type": "end"})");
  EXPECT_EQ(FinalText(socket), "w0 w1 w3");
  EXPECT_EQ(socket.ReadCloseCode(), 1000);
  EXPECT_TRUE(AllGone());
}

TEST_F(StreamTest, VoskAnswersEveryMessage) {
  Begin();
  for (const char* path : {"/", "/vosk"}) {
    TestWebSocket socket(port_, path);
    socket.SendText(R"({"config": {"sample_rate": 16000}})");
    std::string seen;
    for (int i = 0; i < 10; ++i) {
      socket.SendBinary(Sound(0.25));
      const Json answer = socket.Read().json();
      seen = answer.value("partial", answer.value("text", "?"));
    }
    socket.SendText(R"({"eof": 1})");
    EXPECT_EQ(socket.Read().json()["text"], "w0 w1") << seen;
    EXPECT_EQ(socket.ReadCloseCode(), 1000);
  }
}

TEST_F(StreamTest, RealtimeTranscribesBetweenCommits) {
  Begin();
  TestWebSocket socket(port_, "/v1/realtime?intent=transcription&model=fake", "Sec-WebSocket-Protocol: realtime\r\n");
  EXPECT_THAT(socket.response().head, HasSubstr("Sec-WebSocket-Protocol: realtime\r\n"));
  EXPECT_EQ(socket.Read().json()["type"], "session.created");
  socket.SendText(
      R"({"type":"session.update","session":{"type":"transcription","audio":{"input":{"turn_detection":null}}}})");
  for (int round = 0; round < 2; ++round) {
    const std::string audio = EncodeBase64(Sound(2, 24000));
    socket.SendText(R"({"type":"input_audio_buffer.append","audio":")" + audio + R"("})");
    socket.SendText(R"({"type":"input_audio_buffer.commit"})");
    const Json completed = socket.ReadUntil("conversation.item.input_audio_transcription.completed").json();
    EXPECT_EQ(completed["transcript"], FakeWords(2, 2 * round));
  }
  EXPECT_EQ(TestWebSocket(port_, "/v1/realtime?model=..%2Fother").status(), 404);
  EXPECT_EQ(TestWebSocket(port_, "/v1/realtime?intent=chat").status(), 400);
}

TEST_F(StreamTest, WyomingTranscribesAndToleratesAHalfClosedSocket) {
  options_.wyoming_port = 0;
  Begin({.max_streams = 1});
  const Json format = {{"rate", 16000}, {"width", 2}, {"channels", 1}};
  TestClient client(server_->wyoming_port());
  client.Send(FormatWyomingEvent({.type = "audio-start", .data = format}));
  for (int i = 0; i < 3; ++i)
    client.Send(FormatWyomingEvent({.type = "audio-chunk", .data = format, .payload = Sound(1)}));
  ASSERT_TRUE(Eventually([&] { return service_->Stats().streams == 1; }));
  // Its stream is a place taken, for WebSockets too; and the other way round.
  EXPECT_EQ(TestWebSocket(port_, "/v1/stream").status(), 429);
  {
    TestClient refused(server_->wyoming_port());
    refused.Send(FormatWyomingEvent({.type = "audio-start", .data = format}));
    EXPECT_THAT(refused.ReadToEnd(), HasSubstr("busy"));
  }
  client.Send(FormatWyomingEvent({.type = "audio-stop"}));
  client.CloseHalf();
  EXPECT_THAT(client.ReadToEnd(), HasSubstr("{\"text\":\"w0 w1 w2\",\"language\":\"en\"}"));
  EXPECT_TRUE(AllGone());
}

TEST_F(StreamTest, OneStreamTooManyIsRefusedBeforeTheUpgrade) {
  Begin({.max_streams = 2});
  auto first = std::make_unique<TestWebSocket>(port_, "/v1/stream");
  TestWebSocket second(port_, "/vosk");
  TestWebSocket third(port_, "/v1/realtime");
  EXPECT_EQ(third.status(), 429);
  EXPECT_THAT(third.response().head, HasSubstr("Retry-After: "));
  first.reset();
  ASSERT_TRUE(Eventually([&] { return server_->metrics().stream_slots.now == 1; }));
  EXPECT_EQ(TestWebSocket(port_, "/v1/stream").status(), 101);
}

TEST_F(StreamTest, AServiceThatIsFullAnywayClosesWith1013) {
  Begin({.max_streams = 1});
  const auto stolen = service_->OpenStream({}, [](StreamUpdate) {});
  TestWebSocket socket(port_, "/v1/stream");
  socket.SendBinary(Sound(0.1));
  EXPECT_EQ(socket.ReadCloseCode(), 1013);
}

TEST_F(StreamTest, TooLargeMessagesCloseWith1009) {
  options_.max_message_bytes = 10000;
  Begin();
  TestWebSocket socket(port_, "/v1/stream");
  socket.SendBinary(std::string(10001, '\0'));
  EXPECT_EQ(socket.ReadCloseCode(), 1009);
  EXPECT_TRUE(AllGone());
}

TEST_F(StreamTest, PingsAreAnsweredWhileTheModelComputes) {
  Begin();
  TestWebSocket socket(port_, "/v1/stream");
  socket.SendBinary(Sound(1));
  EXPECT_EQ(socket.Read().json()["type"], "ready");
  service_->Hold(true);
  socket.SendBinary(Sound(1));
  socket.SendFrame(9, "hey");
  std::string text;
  while (text != "pong hey") text = socket.Read().text;
  service_->Hold(false);
}

TEST_F(StreamTest, SilentConnectionsAreClosedAndPingsKeepThem) {
  options_.idle_timeout_s = 0.5;
  options_.wyoming_port = 0;
  Begin();
  TestWebSocket idle(port_, "/v1/stream"), pinging(port_, "/v1/stream");
  TestClient wyoming(server_->wyoming_port());
  for (int i = 0; i < 8; ++i) {
    pinging.SendFrame(9, "x");
    EXPECT_EQ(pinging.Read().text, "pong x");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(idle.ReadCloseCode(), 1001);
  EXPECT_TRUE(wyoming.ClosesWithin(2));
  pinging.SendFrame(9, "y");
  EXPECT_EQ(pinging.Read().text, "pong y");
  EXPECT_EQ(server_->metrics().idle_closes, 2);
}

TEST_F(StreamTest, ASocketIsReadNoFurtherThanTheModelCanFollow) {
  options_.max_queued_s = 2;
  Begin();
  service_->Hold(true);
  TestWebSocket socket(port_, "/v1/stream");
  // Far more than the buffers of sockets hold, 12.8 MB: a server that does not mind would read it all at once.
  std::thread sender([&] {
    for (int i = 0; i < 200; ++i) socket.SendBinary(Sound(1) + Silence(1));
    socket.SendText(R"({"type": "end"})");
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_LE(service_->max_queued_s(), 4.5);  // and one message
  service_->Hold(false);
  const std::string text = FinalText(socket);
  sender.join();
  EXPECT_TRUE(text.starts_with("w0 w2 w4 ") && text.ends_with(" w396 w398")) << text;
  EXPECT_LE(service_->max_queued_s(), 4.5);
}

TEST_F(StreamTest, AClientThatDoesNotReadIsDropped) {
  options_.max_unsent_bytes = 50000;
  Begin();
  TestWebSocket socket(port_, "/v1/stream", "", 4096);
  try {
    for (int i = 0; i < 2000; ++i) socket.SendBinary(Sound(5));
    ADD_FAILURE() << "it was not dropped";
  } catch (const Error&) {
  }
  EXPECT_EQ(server_->metrics().slow_readers, 1);
  EXPECT_TRUE(AllGone());
}

TEST_F(StreamTest, GarbageEndsItsOwnConnectionOnly) {
  Begin();
  TestWebSocket good(port_, "/v1/stream");
  // Reserved bits, a frame without its mask, and one of 2^63 bytes.
  for (const std::string& bytes :
       {std::string(16, '\xff'), std::string("\x81\x02xx", 4), "\x81" + std::string(16, '\xff')}) {
    TestWebSocket bad(port_, "/v1/stream");
    bad.client().Send(bytes);
    const int code = bad.ReadCloseCode();
    EXPECT_TRUE(code == 1002 || code == 1009) << code;
  }
  TestWebSocket not_utf8(port_, "/v1/stream");
  not_utf8.SendText("\xff\xfe");
  EXPECT_EQ(not_utf8.ReadCloseCode(), 1007);
  good.SendBinary("x");  // half a sample
  good.SendBinary("");
  good.SendText(R"({"type": "end"})");
  EXPECT_EQ(FinalText(good), "");
}

TEST_F(StreamTest, WhatAClientLeavesBehindIsNeverAnothersText) {
  Begin({.max_streams = 1});
  {
    TestWebSocket socket(port_, "/v1/stream");
    socket.SendBinary(Sound(3.5));
    socket.ReadUntil("update");
  }
  ASSERT_TRUE(AllGone());
  TestWebSocket socket(port_, "/v1/stream");
  socket.SendText(R"({"type": "end"})");
  EXPECT_EQ(FinalText(socket), "");
}

TEST_F(StreamTest, DescriptorsComeBack) {
  Begin({.max_streams = 100});
  Get("/healthz");
  ASSERT_TRUE(AllGone());
  const size_t before = OpenDescriptors();
  {
    std::vector<std::unique_ptr<TestWebSocket>> sockets;
    for (int i = 0; i < 50; ++i) {
      sockets.push_back(std::make_unique<TestWebSocket>(port_, i % 2 ? "/v1/stream" : "/vosk"));
      sockets.back()->SendBinary(Sound(0.3));
    }
    EXPECT_GE(OpenDescriptors(), before + 100);
  }
  EXPECT_TRUE(AllGone());
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(StreamTest, HundredsOfSlowClientsDisturbNobody) {
  Begin();
  std::vector<std::unique_ptr<TestClient>> slow;
  for (int i = 0; i < 400; ++i) {
    slow.push_back(std::make_unique<TestClient>(port_));
    slow.back()->Send(i % 2 ? "GET / HTTP/1.1\r\nX: " : TranscriptionRequestBytes(Sound(1)).substr(0, 2000));
  }
  const auto begin = std::chrono::steady_clock::now();
  TestWebSocket socket(port_, "/v1/stream");
  socket.SendBinary(Sound(2));
  socket.SendText(R"({"type": "end"})");
  EXPECT_EQ(FinalText(socket), "w0 w1");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  slow.clear();
  socket.ReadCloseCode();
  EXPECT_TRUE(AllGone());
}

TEST_F(StreamTest, StoppingInTheMiddleOfEverythingIsHarmless) {
  options_.wyoming_port = 0;
  Begin();
  TestWebSocket page(port_, "/v1/stream"), vosk(port_, "/vosk");
  TestClient wyoming(server_->wyoming_port()), upload(port_), half(port_);
  service_->Hold(true);
  page.SendBinary(Sound(5));
  vosk.SendBinary(Sound(5));
  upload.Send(TranscriptionRequestBytes(Sound(1)));
  half.Send("POST /v1/audio");
  wyoming.Send("{\"type\": \"audio-chunk\", \"payload_length\": 1000}\nxyz");
  ASSERT_TRUE(Eventually([&] { return service_->Stats().recordings == 1 && service_->Stats().streams == 2; }));
  service_->Hold(false);
  server_.reset();
  EXPECT_EQ(service_->Stats().streams + service_->Stats().recordings, 0);
  EXPECT_TRUE(NoUploads());
}

// A word is told from the service's thread while the io_context goes: ThreadSanitizer sees it, one time in a thousand.
TEST_F(StreamTest, StoppingWhileWordsAreToldIsHarmless) {
  Begin();
  std::vector<std::unique_ptr<TestWebSocket>> pages;
  for (int i = 0; i < 4; ++i) pages.push_back(std::make_unique<TestWebSocket>(port_, "/v1/stream"));
  service_->Hold(true);
  for (const auto& page : pages) page->SendBinary(Silence(20));
  ASSERT_TRUE(Eventually([&] { return service_->Stats().streams == 4 && service_->max_queued_s() > 19; }));
  service_->Hold(false);
  server_.reset();
  EXPECT_EQ(service_->Stats().streams, 0);
}

}  // namespace
}  // namespace earshot
