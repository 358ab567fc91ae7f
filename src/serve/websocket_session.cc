#include "src/serve/websocket_session.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <string_view>
#include <utility>

#include "src/serve/access.h"
#include "src/serve/session_timers.h"
#include "src/serve/stream_connection.h"

namespace earshot {
namespace {

namespace http = beast::http;
namespace websocket = beast::websocket;

// A buffer that one large message has grown is not kept for the small ones that follow.
constexpr size_t kKeptBuffer = 64 * 1024;

// The subprotocol to answer with, of those that the client offers: its token is among them, and is not repeated.
std::string ChooseSubprotocol(std::string_view offered) {
  for (const std::string& name : SplitList(offered)) {
    if (name == "earshot" || name == "realtime") return name;
  }
  return "";
}

class WebSocketSession : public StreamConnection {
 public:
  WebSocketSession(AnyStream stream, std::shared_ptr<ServerContext> context, GaugeHold slot)
      : StreamConnection(context, std::move(slot), context->work_gate.To(stream.get_executor())),
        hold_(context->metrics.websocket_connections),
        timers_(stream.get_executor()),
        socket_(std::move(stream)) {}

  asio::awaitable<void> Run(http::request<http::empty_body> request,
                            std::function<std::unique_ptr<StreamProtocol>(StreamHost&)> make_protocol) {
    const auto self = shared_from_this();
    Configure(request);
    co_await socket_.async_accept(request, asio::use_awaitable);
    context_->metrics.CountResponse(101);
    asio::co_spawn(socket_.get_executor(), timers_.Watch(shared_from_this()), asio::detached);
    Begin(make_protocol(*this));
    beast::error_code error;
    while (!error) {
      co_await socket_.async_read(buffer_, asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      OnActivity();
      const std::string_view message(static_cast<const char*>(buffer_.data().data()), buffer_.size());
      const bool text = socket_.got_text();
      Tell([&](StreamProtocol& p) { text ? p.OnText(message) : p.OnBinary(message); });
      buffer_.consume(buffer_.size());
      if (buffer_.capacity() > kKeptBuffer) buffer_ = beast::flat_buffer();
      while (!MayRead() && !ended()) co_await timers_.WaitForRoom();
    }
    End();
    timers_.Reconsider();
  }

 protected:
  void WriteFront() override {
    socket_.text(true);
    socket_.async_write(asio::buffer(front()), [self = shared_from_this(), this](beast::error_code error, size_t) {
      error ? Drop() : OnWritten();
    });
  }

  void SayGoodbye(CloseCode code, const std::string& reason) override {
    const websocket::close_reason why(static_cast<websocket::close_code>(code), reason);
    socket_.async_close(why, [self = shared_from_this()](beast::error_code) {});
  }

  void Abort() override {
    beast::close_socket(socket_.next_layer().tcp());
    OnProgress();
  }

  void OnProgress() override {
    timers_.Wake();
    if (closing()) timers_.Reconsider();
  }

 private:
  void Configure(const http::request<http::empty_body>& request) {
    socket_.next_layer().tcp().expires_never();
    websocket::stream_base::timeout times{};
    // Also of the closing handshake. Idle time is StreamConnection's.
    times.handshake_timeout = Nanoseconds(std::chrono::duration<double>(context_->options.header_timeout_s));
    times.idle_timeout = websocket::stream_base::none();
    times.keep_alive_pings = false;
    socket_.set_option(times);
    socket_.read_message_max(static_cast<size_t>(context_->options.max_message_bytes));
    socket_.control_callback([this](websocket::frame_type, beast::string_view) { OnActivity(); });
    const beast::string_view offered = request[http::field::sec_websocket_protocol];
    const std::string chosen = ChooseSubprotocol({offered.data(), offered.size()});
    socket_.set_option(websocket::stream_base::decorator([chosen](websocket::response_type& response) {
      response.set(http::field::server, "earshot");
      if (!chosen.empty()) response.set(http::field::sec_websocket_protocol, chosen);
    }));
  }

  const GaugeHold hold_;
  SessionTimers timers_;
  websocket::stream<AnyStream> socket_;
  beast::flat_buffer buffer_;
};

}  // namespace

asio::awaitable<void> ServeWebSocket(AnyStream stream, http::request<http::empty_body> request,
                                     std::shared_ptr<ServerContext> context, GaugeHold slot,
                                     std::function<std::unique_ptr<StreamProtocol>(StreamHost&)> make_protocol) {
  const auto session = std::make_shared<WebSocketSession>(std::move(stream), std::move(context), std::move(slot));
  co_await session->Run(std::move(request), std::move(make_protocol));
}

}  // namespace earshot
