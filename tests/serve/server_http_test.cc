// HTTP over sockets: what is answered, and what is refused before it costs anything.
#include <gmock/gmock.h>

#include "src/base/error.h"
#include "tests/serve/server_fixture.h"

namespace earshot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

using HttpTest = ServerFixture;

std::string CodeOf(const TestResponse& response) { return Json::parse(response.body)["error"]["code"]; }

TEST_F(HttpTest, AnswersOneRequestAfterTheOtherOnAConnection) {
  Begin();
  TestClient client(port_);
  EXPECT_EQ(client.Get("/healthz").body, "ok\n");
  EXPECT_EQ(client.Get("/readyz").status, 200);
  EXPECT_EQ(Json::parse(client.Get("/v1/models").body)["data"][0]["id"], "fake");
  EXPECT_EQ(Json::parse(client.Get("/v1/models/fake").body)["id"], "fake");
  EXPECT_EQ(CodeOf(client.Get("/v1/models/..%2Ffake")), "model_not_found");
  EXPECT_EQ(client.Get("/nowhere").status, 404);
  client.Send("DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
  const TestResponse refused = client.ReadResponse();
  EXPECT_EQ(refused.status, 405);
  EXPECT_THAT(refused.head, HasSubstr("Allow: GET, HEAD, OPTIONS\r\n"));
  EXPECT_EQ(server_->metrics().http_connections.total, 1);
}

TEST_F(HttpTest, TwoRequestsInOnePacketAreBothAnswered) {
  Begin();
  TestClient client(port_);
  const std::string request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
  client.Send(request + request);
  EXPECT_EQ(client.ReadResponse().status, 200);
  EXPECT_EQ(client.ReadResponse().status, 200);
}

TEST_F(HttpTest, HeadHasNoBody) {
  Begin();
  TestClient client(port_);
  client.Send("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  const std::string answer = client.ReadToEnd();
  EXPECT_THAT(answer, HasSubstr("Content-Length: 3\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

TEST_F(HttpTest, TranscribesAFileInEveryFormat) {
  Begin();
  TestClient client(port_);
  const std::string file = Sound(2) + Silence(1) + Sound(1);
  const auto ask = [&](const std::string& fields) {
    client.Send(TranscriptionRequestBytes(file, fields));
    return client.ReadResponse();
  };
  EXPECT_EQ(Json::parse(ask("").body)["text"], "w0 w1 w3");
  EXPECT_EQ(ask(FormField("response_format", "text")).body, "w0 w1 w3\n");
  EXPECT_THAT(ask(FormField("response_format", "srt")).body, StartsWith("1\n00:00:00,200 --> "));
  EXPECT_THAT(ask(FormField("response_format", "vtt")).body, StartsWith("WEBVTT\n"));
  const Json verbose = Json::parse(
      ask(FormField("response_format", "verbose_json") + FormField("timestamp_granularities[]", "word")).body);
  EXPECT_EQ(verbose["words"].size(), 3u);
  EXPECT_EQ(verbose["duration"], 4.0);
  EXPECT_TRUE(NoUploads());
  for (const std::string& path : service_->paths()) EXPECT_TRUE(path.ends_with(".wav")) << path;
}

TEST_F(HttpTest, StreamsATranscriptAsEvents) {
  Begin();
  TestClient client(port_);
  client.Send(TranscriptionRequestBytes(Sound(2) + Silence(1) + Sound(1), FormField("stream", "true")));
  const TestResponse response = client.ReadResponse();
  EXPECT_THAT(response.head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_EQ(response.body,
            "data: {\"type\":\"transcript.text.delta\",\"delta\":\"w0 w1\"}\n\n"
            "data: {\"type\":\"transcript.text.delta\",\"delta\":\" w3\"}\n\n"
            "data: {\"type\":\"transcript.text.done\",\"text\":\"w0 w1 w3\"}\n\n");
  EXPECT_EQ(client.Get("/healthz").status, 200);
}

TEST_F(HttpTest, RecordingsThatCannotBeTranscribedSayWhy) {
  Begin();
  for (const char* fields : {"", "--XX\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n"}) {
    TestClient client(port_);
    client.Send(TranscriptionRequestBytes("BAD", fields));
    const TestResponse response = client.ReadResponse();
    EXPECT_EQ(response.status, 400);
    EXPECT_EQ(CodeOf(response), "invalid_audio");
  }
  for (const std::string file : {"", "x"}) {  // nothing, and an odd byte
    TestClient client(port_);
    client.Send(TranscriptionRequestBytes(file));
    EXPECT_EQ(client.ReadResponse().status, file.empty() ? 400 : 200);
  }
  EXPECT_TRUE(NoUploads());
}

TEST_F(HttpTest, TooLargeUploadsAreRefusedBeforeAndWhileTheyAreRead) {
  options_.max_upload_bytes = 100000;
  Begin();
  TestClient announced(port_);
  announced.Send("POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n");
  EXPECT_EQ(announced.ReadResponse().status, 413);
  TestClient whole(port_);
  whole.Send(TranscriptionRequestBytes(std::string(150000, 'x')));
  EXPECT_EQ(whole.ReadResponse().status, 413);
  TestClient chunked(port_);
  chunked.Send(
      "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
      "Content-Type: multipart/form-data; boundary=XX\r\n\r\n40000\r\n");
  chunked.Send("--XX\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" + std::string(200000, 'x'));
  EXPECT_EQ(chunked.ReadResponse().status, 413);
  EXPECT_TRUE(NoUploads());
}

TEST_F(HttpTest, AClientThatAsksFirstIsToldToGoOn) {
  Begin();
  TestClient client(port_);
  const std::string request = TranscriptionRequestBytes(Sound(1), "", "Expect: 100-continue\r\n");
  const size_t head = request.find("\r\n\r\n") + 4;
  client.Send(request.substr(0, head));
  EXPECT_EQ(client.Read(25), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(request.substr(head));
  EXPECT_EQ(client.ReadResponse().status, 200);
  TestClient refused(port_);  // and one that would be refused is not
  refused.Send(
      "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
      "Content-Length: 999999999\r\n\r\n");
  EXPECT_EQ(refused.ReadResponse().status, 413);
}

TEST_F(HttpTest, TooLargeHeadersAndWhatIsNoHttpAreRefused) {
  Begin();
  EXPECT_EQ(Get("/healthz", "X: " + std::string(9000, 'a') + "\r\n").status, 431);
  EXPECT_EQ(Get("/healthz", "X: " + std::string(7000, 'a') + "\r\n").status, 200);
  for (const char* bytes : {"garbage\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02",
                            "GET no-slash HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"}) {
    TestClient client(port_);
    client.Send(bytes);
    client.CloseHalf();
    const std::string answer = client.ReadToEnd();
    EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 400 ")) << bytes << ": " << answer;
  }
  EXPECT_TRUE(AllGone());
}

TEST_F(HttpTest, TokensAndOriginsAreAskedFor) {
  options_.tokens = {"secret"};
  options_.allow_origins = {"https://page.example"};
  Begin();
  EXPECT_EQ(Get("/v1/models").status, 401);
  EXPECT_EQ(Get("/v1/models", "Authorization: Bearer wrong\r\n").status, 401);
  EXPECT_EQ(Get("/v1/models", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_EQ(Get("/healthz", "Origin: https://evil.example\r\n").status, 403);
  EXPECT_EQ(Get("/healthz", "Origin: http://localhost\r\n").status, 200);
  EXPECT_THAT(Get("/healthz", "Origin: https://page.example\r\n").head,
              HasSubstr("Access-Control-Allow-Origin: https://page.example\r\n"));
  EXPECT_EQ(TestWebSocket(port_, "/v1/stream").status(), 401);
  EXPECT_EQ(TestWebSocket(port_, "/v1/stream", "Origin: https://evil.example\r\n").status(), 403);
  TestWebSocket let_in(port_, "/v1/stream", "Sec-WebSocket-Protocol: earshot, bearer.c2VjcmV0\r\n");
  EXPECT_EQ(let_in.status(), 101);
  EXPECT_THAT(let_in.response().head, HasSubstr("Sec-WebSocket-Protocol: earshot\r\n"));
  TestClient upload(port_);
  upload.Send(TranscriptionRequestBytes(Sound(10)));
  EXPECT_EQ(upload.ReadResponse().status, 401);
}

TEST_F(HttpTest, TooManyRecordingsAreToldToComeBack) {
  Begin({.max_recordings = 1});
  service_->Hold(true);
  TestClient first(port_), second(port_);
  first.Send(TranscriptionRequestBytes(Sound(1)));
  ASSERT_TRUE(Eventually([&] { return service_->Stats().recordings == 1; }));
  second.Send(TranscriptionRequestBytes(Sound(1)));
  const TestResponse refused = second.ReadResponse();
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.head, HasSubstr("Retry-After: "));
  // The network does not wait for the model.
  EXPECT_EQ(Get("/healthz").status, 200);
  service_->Hold(false);
  EXPECT_EQ(first.ReadResponse().status, 200);
}

TEST_F(HttpTest, AClientThatGoesAwayTakesItsRecordingAlong) {
  options_.idle_timeout_s = 0.3;
  Begin();
  service_->Hold(true);
  {
    TestClient client(port_);
    client.Send(TranscriptionRequestBytes(Sound(1)));
    ASSERT_TRUE(Eventually([&] { return service_->Stats().recordings == 1; }));
  }
  EXPECT_TRUE(AllGone());
  EXPECT_TRUE(NoUploads());
  {
    TestClient cut(port_);
    cut.Send(TranscriptionRequestBytes(Sound(1)).substr(0, 5000));
  }
  EXPECT_TRUE(AllGone());
  EXPECT_TRUE(NoUploads());
}

TEST_F(HttpTest, AClientThatClosedItsHalfGetsItsAnswer) {
  Begin();
  service_->Hold(true);
  TestClient client(port_);
  client.Send(TranscriptionRequestBytes(Sound(1)));
  client.CloseHalf();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  service_->Hold(false);
  EXPECT_EQ(client.ReadResponse().status, 200);
}

TEST_F(HttpTest, SlowClientsAreLetGo) {
  options_.header_timeout_s = 0.3;
  options_.idle_timeout_s = 0.6;
  Begin();
  TestClient silent(port_), slow(port_), resting(port_), uploading(port_);
  slow.Send("GET /healthz HTTP/1.1\r\n");
  EXPECT_EQ(resting.Get("/healthz").status, 200);
  uploading.Send(TranscriptionRequestBytes(Sound(10)).substr(0, 1000));
  for (TestClient* client : {&silent, &slow, &resting, &uploading}) EXPECT_TRUE(client->ClosesWithin(3));
  EXPECT_TRUE(AllGone());
  EXPECT_TRUE(NoUploads());
}

TEST_F(HttpTest, ConnectionsAboveTheLimitAreRefusedAndOthersGoOn) {
  options_.max_connections = 3;
  Begin();
  TestClient a(port_), b(port_), c(port_);
  EXPECT_EQ(a.Get("/healthz").status, 200);
  EXPECT_EQ(b.Get("/healthz").status, 200);
  EXPECT_EQ(c.Get("/healthz").status, 200);
  EXPECT_EQ(TestClient(port_).ReadResponse().status, 503);
  EXPECT_EQ(a.Get("/healthz").status, 200);
  EXPECT_EQ(server_->metrics().refused_connections, 1);
}

TEST_F(HttpTest, MetricsCountWhatHappened) {
  Begin();
  EXPECT_EQ(Get("/nowhere").status, 404);
  const std::string text = Get("/metrics").body;
  EXPECT_THAT(text, HasSubstr("earshot_http_requests_total{code=\"404\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("earshot_max_streams 8\n"));
}

TEST(ServerOptions, AreChecked) {
  FakeService service;
  for (const ServerOptions& options :
       {ServerOptions{.port = 70000}, ServerOptions{.port = 0, .cert = "x"}, ServerOptions{.port = 0, .tokens = {""}},
        ServerOptions{.port = 0, .cert = "/no/cert", .key = "/no/key"},
        ServerOptions{.host = "no such host", .port = 0}, ServerOptions{.port = 0, .allow_origins = {"example.org"}},
        ServerOptions{.port = 0, .io_threads = 0}})
    EXPECT_THROW(Server(options, service), Error);
  const Server first({.port = 0}, service);
  EXPECT_THROW(Server({.port = first.port()}, service), Error);  // taken
}

}  // namespace
}  // namespace earshot
