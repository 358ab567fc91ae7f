// Recognition over the network: HTTP, WebSockets and Wyoming on one service.
//
//   Server server({.port = 8080}, *service);      // listens already; throws Error when it cannot
//   server.Run([&] { fmt::print("ready at {}\n", server.url()); });   // until SIGTERM or SIGINT, then drains
//
// What is served where: routes.h. In a test Start() instead of Run(), and the destructor stops. Drain and Stop may be
// called on any thread. The service outlives the server.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "src/serve/metrics.h"
#include "src/serve/server_options.h"
#include "src/stream/recognition_service.h"

namespace earshot {

class Server {
 public:
  // Throws Error when the options are not valid, an address cannot be had, or the certificate cannot be used.
  Server(const ServerOptions& options, RecognitionService& service);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "http://127.0.0.1:8080"; https with a certificate.
  std::string url() const;
  int port() const;
  // -1: Wyoming is not served.
  int wyoming_port() const;
  const ServerMetrics& metrics() const;

  // Begins to serve, on threads of its own.
  void Start();
  // Takes in nothing more; streams get their last words and requests their answers, within drain_s. Returns at once.
  void Drain();
  // Ends all at once, and returns when all threads have.
  void Stop();
  // Returns when the server has drained or was stopped.
  void Wait();

  // Start, ready() if it is given, and Wait. SIGTERM and SIGINT drain, from before ready() on; a second one stops.
  void Run(const std::function<void()>& ready = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace earshot
