// A TCP connection with or without TLS, as one type: what is above it is compiled once.
//
//   AnyStream stream(std::move(socket), tls);      // tls: nullptr for none
//   co_await stream.Handshake(10s);
//   stream.tcp().expires_after(30s);               // what is not done by then fails and closes the socket
//   co_await http::async_read_header(stream, buffer, parser, asio::use_awaitable);
//
// A stream of Asio's concepts (AsyncReadStream, AsyncWriteStream). Not thread-safe: on its socket's executor.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <boost/beast/websocket/teardown.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <utility>

namespace earshot {

namespace asio = boost::asio;
namespace beast = boost::beast;

class AnyStream {
 public:
  // For what a client still sends that was refused: it reads its answer only after that.
  static constexpr std::chrono::seconds kLingerTime{5};

  using executor_type = beast::tcp_stream::executor_type;

  AnyStream(asio::ip::tcp::socket socket, asio::ssl::context* tls) {
    if (tls)
      tls_ = std::make_unique<beast::ssl_stream<beast::tcp_stream>>(std::move(socket), *tls);
    else
      plain_ = std::make_unique<beast::tcp_stream>(std::move(socket));
  }

  executor_type get_executor() { return tcp().get_executor(); }
  beast::tcp_stream& tcp() { return tls_ ? tls_->next_layer() : *plain_; }
  bool is_tls() const { return tls_ != nullptr; }

  // TLS's; nothing to do without. Throws boost::system::system_error.
  asio::awaitable<void> Handshake(std::chrono::duration<double> timeout);
  // Says that nothing more will be sent, and passes over what the other side still sends until it is done too, at most
  // this long: a socket that is closed with unread bytes in it takes what was written away from the client.
  asio::awaitable<void> Leave(std::chrono::duration<double> time);

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(beast::error_code, size_t)>(
        [this](auto handler, const Buffers& b) {
          tls_ ? tls_->async_read_some(b, std::move(handler)) : plain_->async_read_some(b, std::move(handler));
        },
        token, buffers);
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(beast::error_code, size_t)>(
        [this](auto handler, const Buffers& b) {
          tls_ ? tls_->async_write_some(b, std::move(handler)) : plain_->async_write_some(b, std::move(handler));
        },
        token, buffers);
  }

  // What a WebSocket does to the stream below it when its own goodbyes are said, and when it gave up.
  template <class Handler>
  friend void async_teardown(beast::role_type role, AnyStream& stream, Handler&& handler) {
    asio::co_spawn(stream.get_executor(), stream.Leave(kLingerTime),
                   [h = std::forward<Handler>(handler)](std::exception_ptr) mutable { h(beast::error_code()); });
  }
  friend void beast_close_socket(AnyStream& stream) { stream.tcp().close(); }

 private:
  std::unique_ptr<beast::tcp_stream> plain_;
  std::unique_ptr<beast::ssl_stream<beast::tcp_stream>> tls_;
};

inline std::chrono::nanoseconds Nanoseconds(std::chrono::duration<double> duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration);
}

}  // namespace earshot
