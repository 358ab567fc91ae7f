// A server on a free port, over a recogniser without a model.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "src/serve/server.h"
#include "tests/serve/fake_service.h"
#include "tests/serve/test_client.h"
#include "tests/support/temp_folder.h"

namespace earshot {

class ServerFixture : public ::testing::Test {
 protected:
  ServerFixture() {
    options_.port = 0;
    options_.upload_dir = uploads_.Path("");
  }

  void Begin(const FakeServiceOptions& service = {}) {
    service_ = std::make_unique<FakeService>(service);
    server_ = std::make_unique<Server>(options_, *service_);
    server_->Start();
    port_ = server_->port();
  }
  TestResponse Get(const std::string& path, const std::string& headers = "") {
    return TestClient(port_).Get(path, headers);
  }
  bool NoUploads() const { return std::filesystem::is_empty(uploads_.Path("")); }

  // Until it is so, at most 5 s.
  static bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return condition();
  }
  // No connection, stream or recording is left.
  bool AllGone() {
    return Eventually([&] {
      const ServerMetrics& metrics = server_->metrics();
      const ServiceStats stats = service_->Stats();
      return metrics.http_connections.now + metrics.websocket_connections.now + metrics.wyoming_connections.now == 0 &&
             metrics.stream_slots.now == 0 && metrics.work.now == 0 && stats.streams + stats.recordings == 0;
    });
  }

  // seconds of sound, or of silence, as s16le.
  static std::string Sound(double seconds, int rate = 16000, bool silent = false) {
    const size_t count = static_cast<size_t>(seconds * rate);
    std::string bytes(2 * count, '\0');
    for (size_t i = 0; !silent && i < count; ++i) bytes[2 * i + 1] = i % 2 == 0 ? 0x20 : -0x20;
    return bytes;
  }
  static std::string Silence(double seconds, int rate = 16000) { return Sound(seconds, rate, true); }

  const TempFolder uploads_;
  ServerOptions options_;
  std::unique_ptr<FakeService> service_;
  std::unique_ptr<Server> server_;
  int port_ = 0;
};

}  // namespace earshot
