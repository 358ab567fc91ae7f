#include "src/serve/any_stream.h"

#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace earshot {

asio::awaitable<void> AnyStream::Handshake(std::chrono::duration<double> timeout) {
  if (!tls_) co_return;
  tcp().expires_after(Nanoseconds(timeout));
  co_await tls_->async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
}

asio::awaitable<void> AnyStream::Leave(std::chrono::duration<double> time) {
  beast::error_code error;
  tcp().expires_after(Nanoseconds(time));
  // Fails at once where the client still sends; its bytes are then passed over without being deciphered.
  if (tls_) co_await tls_->async_shutdown(asio::redirect_error(asio::use_awaitable, error));
  tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_send, error);
  const auto passed = std::make_unique<std::array<char, 16 * 1024>>();
  while (!error)
    co_await tcp().async_read_some(asio::buffer(*passed), asio::redirect_error(asio::use_awaitable, error));
}

}  // namespace earshot
