#include "src/serve/wyoming_session.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <string_view>
#include <utility>

#include "src/serve/session_timers.h"
#include "src/serve/stream_connection.h"
#include "src/serve/wyoming_protocol.h"

namespace earshot {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

class WyomingSession : public StreamConnection {
 public:
  WyomingSession(asio::ip::tcp::socket socket, const std::shared_ptr<ServerContext>& context)
      : StreamConnection(context, GaugeHold(), context->work_gate.To(socket.get_executor())),
        hold_(context->metrics.wyoming_connections),
        timers_(socket.get_executor()),
        socket_(std::move(socket)) {}

  asio::awaitable<void> Run() {
    const auto self = shared_from_this();
    asio::co_spawn(socket_.get_executor(), timers_.Watch(shared_from_this()), asio::detached);
    Begin(std::make_unique<WyomingProtocol>(*this));
    error_code error;
    while (!error) {
      const size_t size =
          co_await socket_.async_read_some(asio::buffer(buffer_), asio::redirect_error(asio::use_awaitable, error));
      if (size == 0) continue;
      OnActivity();
      Tell([&](StreamProtocol& p) { p.OnBinary(std::string_view(buffer_.data(), size)); });
      while (!MayRead() && !ended()) co_await timers_.WaitForRoom();
    }
    // A client that closed its half may still wait for its transcript.
    if (error == asio::error::eof) {
      Tell([&](StreamProtocol& p) { p.OnDrain(); });
      while (!shut_ && socket_.is_open()) co_await timers_.WaitForRoom();
    }
    End();
    timers_.Reconsider();
  }

 protected:
  void WriteFront() override {
    asio::async_write(socket_, asio::buffer(front()),
                      [self = shared_from_this(), this](error_code error, size_t) { error ? Drop() : OnWritten(); });
  }

  void SayGoodbye(CloseCode code, const std::string& reason) override {
    error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    shut_ = true;
    OnProgress();
  }

  void Abort() override {
    error_code ignored;
    socket_.close(ignored);
    OnProgress();
  }

  void OnProgress() override {
    timers_.Wake();
    if (closing()) timers_.Reconsider();
  }

 private:
  const GaugeHold hold_;
  SessionTimers timers_;
  asio::ip::tcp::socket socket_;
  bool shut_ = false;
  std::array<char, 16 * 1024> buffer_;
};

}  // namespace

asio::awaitable<void> ServeWyoming(asio::ip::tcp::socket socket, std::shared_ptr<ServerContext> context) {
  const auto session = std::make_shared<WyomingSession>(std::move(socket), context);
  co_await session->Run();
}

}  // namespace earshot
