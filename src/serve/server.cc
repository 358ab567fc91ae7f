#include "src/serve/server.h"

#include <malloc.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/serve/http_session.h"
#include "src/serve/tls.h"
#include "src/serve/wyoming_session.h"

namespace earshot {
namespace {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kDrainPoll{20};
// When there are no more file descriptors, for a moment nobody is let in.
constexpr std::chrono::milliseconds kAcceptPause{100};
// How often an idle server looks whether it has memory to give back.
constexpr std::chrono::seconds kIdlePoll{1};

tcp::acceptor Listen(asio::io_context& io, const std::string& host, int port) {
  boost::system::error_code error;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error || found.empty()) Throw("{}: not an address of this machine: {}", host, error.message());
  const tcp::endpoint endpoint = found.begin()->endpoint();
  tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error)
    Throw("{}:{}: cannot listen: {}; is another server there? --port 0 takes any that is free", host, port,
          error.message());
  return acceptor;
}

// Above the limit of connections: an answer without reading the question, if it can be had without waiting.
void Refuse(tcp::socket& socket, bool speaks_http) {
  constexpr std::string_view kAnswer =
      "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n";
  if (speaks_http) send(socket.native_handle(), kAnswer.data(), kAnswer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  boost::system::error_code ignored;
  socket.close(ignored);
}

}  // namespace

class Server::Impl {
 public:
  Impl(const ServerOptions& options, RecognitionService& service)
      : tls_(options.cert.empty() ? std::nullopt : std::make_optional(LoadTls(options.cert, options.key))),
        http_(Listen(io_, options.host, options.port)),
        strand_(asio::make_strand(io_)),
        signals_(strand_),
        timer_(strand_) {
    if (options.wyoming_port >= 0) {
      wyoming_.emplace(Listen(io_, options.host, options.wyoming_port));
      wyoming_port_ = wyoming_->local_endpoint().port();
    }
    const bool local_only = http_endpoint_.address().is_loopback();
    context_ = std::make_shared<ServerContext>(options, service, local_only);
    if (wyoming_ && !options.tokens.empty())
      LogWarning("the Wyoming protocol has no tokens: whoever reaches port {} may use it", wyoming_port());
    if (!local_only && options.tokens.empty())
      LogWarning("{} can be reached from other machines, and no token is asked for", url());
  }

  ~Impl() { Stop(); }

  std::string url() const {
    const auto address = http_endpoint_.address();
    const std::string host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
    return fmt::format("{}://{}:{}", tls_ ? "https" : "http", host, http_endpoint_.port());
  }
  int port() const { return http_endpoint_.port(); }
  int wyoming_port() const { return wyoming_port_; }
  const ServerMetrics& metrics() const { return context_->metrics; }

  void Start() {
    asio::co_spawn(strand_, Accept(http_, true), asio::detached);
    if (wyoming_) asio::co_spawn(strand_, Accept(*wyoming_, false), asio::detached);
    asio::co_spawn(strand_, GiveMemoryBack(), asio::detached);
    for (int i = 0; i < context_->options.io_threads; ++i) threads_.emplace_back([this] { RunThread(); });
  }

  void DrainAtSignals() {
    signals_.add(SIGTERM);
    signals_.add(SIGINT);
    asio::post(strand_, [this] { WaitForSignal(); });
  }

  void Drain() {
    asio::post(strand_, [this] {
      if (context_->metrics.draining.exchange(true)) return;
      boost::system::error_code ignored;
      http_.close(ignored);
      if (wyoming_) wyoming_->close(ignored);
      context_->connections.DrainAll();
      asio::co_spawn(strand_, WaitUntilDrained(), asio::detached);
    });
  }

  void Wait() {
    std::unique_lock lock(mutex_);
    done_condition_.wait(lock, [this] { return done_; });
  }

  void Stop() {
    SetDone();
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    context_->work_gate.Close();
  }

 private:
  void RunThread() {
    while (!io_.stopped()) {
      try {
        io_.run();
        return;
      } catch (const std::exception& e) {
        LogWarning("an error in the server: {}", e.what());
      }
    }
  }

  asio::awaitable<void> Accept(tcp::acceptor& acceptor, bool speaks_http) {
    ServerMetrics& metrics = context_->metrics;
    while (acceptor.is_open()) {
      tcp::socket socket(asio::make_strand(io_));
      boost::system::error_code error;
      co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
      if (!acceptor.is_open()) co_return;
      if (error) {
        LogWarning("a connection could not be taken: {}", error.message());
        asio::steady_timer pause(strand_, kAcceptPause);
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      const int64_t open =
          metrics.http_connections.now + metrics.websocket_connections.now + metrics.wyoming_connections.now;
      if (open >= context_->options.max_connections) {
        ++metrics.refused_connections;
        Refuse(socket, speaks_http && !tls_);
        continue;
      }
      socket.set_option(tcp::no_delay(true), error);
      const auto executor = socket.get_executor();
      if (speaks_http) {
        AnyStream stream(std::move(socket), tls_ ? &*tls_ : nullptr);
        asio::co_spawn(executor, ServeHttp(std::move(stream), context_, GaugeHold(metrics.http_connections)),
                       asio::detached);
      } else {
        asio::co_spawn(executor, ServeWyoming(std::move(socket), context_), asio::detached);
      }
    }
  }

  // Once nothing is left to do, the pages that malloc keeps of it go back to the system.
  asio::awaitable<void> GiveMemoryBack() {
    const Gauge& work = context_->metrics.work;
    asio::steady_timer timer(strand_);
    int64_t seen = 0, given = 0;
    while (true) {
      timer.expires_after(kIdlePoll);
      co_await timer.async_wait(asio::use_awaitable);
      const int64_t total = work.total;
      if (work.now == 0 && total == seen && total != given) {
        malloc_trim(0);
        given = total;
      }
      seen = total;
    }
  }

  asio::awaitable<void> WaitUntilDrained() {
    const auto until = Clock::now() + Nanoseconds(std::chrono::duration<double>(context_->options.drain_s));
    boost::system::error_code error;
    while (context_->metrics.work.now > 0 && Clock::now() < until) {
      timer_.expires_after(kDrainPoll);
      co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    SetDone();
  }

  void WaitForSignal() {
    signals_.async_wait([this](boost::system::error_code error, int signal) {
      if (error) return;
      if (context_->metrics.draining) return SetDone();
      LogInfo("{}: streams have {} s for their last words; a second signal ends at once",
              signal == SIGTERM ? "SIGTERM" : "SIGINT", context_->options.drain_s);
      Drain();
      WaitForSignal();
    });
  }

  void SetDone() {
    const std::lock_guard lock(mutex_);
    done_ = true;
    done_condition_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable done_condition_;
  bool done_ = false;
  std::shared_ptr<ServerContext> context_;
  std::optional<asio::ssl::context> tls_;
  // Behind what its handlers use: with it they are destroyed, and with them the connections.
  asio::io_context io_;
  tcp::acceptor http_;
  std::optional<tcp::acceptor> wyoming_;
  asio::strand<asio::io_context::executor_type> strand_;
  asio::signal_set signals_;
  asio::steady_timer timer_;
  const tcp::endpoint http_endpoint_ = http_.local_endpoint();
  int wyoming_port_ = -1;
  std::vector<std::thread> threads_;
};

Server::Server(const ServerOptions& options, RecognitionService& service) {
  options.Validate();
  impl_ = std::make_unique<Impl>(options, service);
}
Server::~Server() = default;

std::string Server::url() const { return impl_->url(); }
int Server::port() const { return impl_->port(); }
int Server::wyoming_port() const { return impl_->wyoming_port(); }
const ServerMetrics& Server::metrics() const { return impl_->metrics(); }
void Server::Start() { impl_->Start(); }
void Server::Drain() { impl_->Drain(); }
void Server::Stop() { impl_->Stop(); }
void Server::Wait() { impl_->Wait(); }

void Server::Run(const std::function<void()>& ready) {
  impl_->DrainAtSignals();
  impl_->Start();
  if (ready) ready();
  impl_->Wait();
  impl_->Stop();
}

}  // namespace earshot
