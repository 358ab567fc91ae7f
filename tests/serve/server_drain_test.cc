// The end of a server: nothing new is taken in, what was begun is finished, and not for ever.
#include <csignal>

#include "src/base/error.h"
#include "tests/serve/server_fixture.h"

namespace earshot {
namespace {

using DrainTest = ServerFixture;

TEST_F(DrainTest, StreamsGetTheirLastWords) {
  Begin();
  TestWebSocket page(port_, "/v1/stream"), vosk(port_, "/vosk"), idle(port_, "/v1/realtime");
  TestClient health(port_), upload(port_);
  EXPECT_EQ(health.Get("/readyz").status, 200);
  service_->Hold(true);
  page.SendBinary(Sound(2));
  vosk.SendBinary(Sound(2));
  upload.Send(TranscriptionRequestBytes(Sound(1)));
  ASSERT_TRUE(Eventually([&] { return service_->Stats().recordings == 1 && service_->Stats().streams == 2; }));
  server_->Drain();
  EXPECT_TRUE(Eventually([&] { return health.Get("/readyz").status == 503; }));
  EXPECT_EQ(health.Get("/healthz").status, 200);
  EXPECT_THROW(TestClient{port_}, Error);
  EXPECT_EQ(idle.ReadCloseCode(), 1001);
  service_->Hold(false);
  std::string last;
  for (TestWebSocket::Message message = page.Read(); message.close_code == 0; message = page.Read())
    last = message.text;
  EXPECT_EQ(Json::parse(last)["finals"][0]["text"], "w0 w1");
  for (TestWebSocket::Message message = vosk.Read(); message.close_code == 0; message = vosk.Read())
    last = message.text;
  EXPECT_EQ(Json::parse(last)["text"], "w0 w1");
  EXPECT_EQ(upload.ReadResponse().status, 200);
  server_->Wait();
}

TEST_F(DrainTest, IsNotWaitedForForEver) {
  options_.drain_s = 0.3;
  Begin();
  TestWebSocket page(port_, "/v1/stream");
  service_->Hold(true);
  page.SendBinary(Sound(2));
  ASSERT_TRUE(Eventually([&] { return service_->Stats().streams == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  server_->Drain();
  server_->Wait();
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  EXPECT_TRUE(page.client().ClosesWithin(1));
}

TEST_F(DrainTest, ASecondSignalEndsAtOnce) {
  Begin();
  server_.reset();
  server_ = std::make_unique<Server>(options_, *service_);
  std::thread runner([&] { server_->Run(); });
  ASSERT_TRUE(Eventually([&] {
    try {
      return TestClient(server_->port()).Get("/healthz").status == 200;
    } catch (const Error&) {
      return false;
    }
  }));
  TestWebSocket page(server_->port(), "/v1/stream");
  service_->Hold(true);
  page.SendBinary(Sound(2));
  ASSERT_TRUE(Eventually([&] { return service_->Stats().streams == 1; }));
  raise(SIGTERM);
  EXPECT_TRUE(Eventually([&] { return server_->metrics().draining.load(); }));
  const auto begin = std::chrono::steady_clock::now();
  raise(SIGINT);
  runner.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  service_->Hold(false);
}

}  // namespace
}  // namespace earshot
