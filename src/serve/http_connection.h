// HTTP/1.1 over a stream: requests in, whole responses or pieces of one out. What a request means is not known here.
//
//   HttpConnection http(std::move(stream), limits);
//   while (co_await http.ReadHeader()) {               // false: the connection is to end
//     const HttpRequest& request = http.request();
//     co_await http.ReadBody([&](std::string_view bytes) { ... });
//     co_await http.Write(response);
//   }
//   co_await http.Finish();
//
// After a response the connection goes on if client and body allow. Errors of the network throw
// boost::system::system_error, of which nobody needs to be told. On the stream's executor.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "src/serve/any_stream.h"
#include "src/serve/http_message.h"

namespace earshot {

struct HttpLimits {
  int64_t header_bytes = 8 * 1024;
  double header_timeout_s = 10, idle_timeout_s = 30;
};

class HttpConnection {
 public:
  HttpConnection(AnyStream stream, const HttpLimits& limits);

  // The next request's. A header that is none is answered, by error_response(), and false returned.
  asio::awaitable<bool> ReadHeader();
  const HttpRequest& request() const { return request_; }
  // What to answer where ReadHeader() gave false because of the client; empty where there is nobody to answer.
  const std::optional<HttpResponse>& error_response() const { return error_response_; }
  // The Content-Length; -1: in chunks, of a length not known.
  int64_t body_bytes() const;

  // The body, in pieces of at most 64 KiB; a client that asks first is told to go on. false: it is damaged, and that
  // was answered as ReadHeader() does.
  asio::awaitable<bool> ReadBody(const std::function<void(std::string_view bytes)>& receive);

  asio::awaitable<void> Write(HttpResponse response);
  // A response of unknown length: its header, then pieces, then the end.
  asio::awaitable<void> BeginPieces(HttpResponse response);
  asio::awaitable<void> WritePiece(std::string_view bytes);
  asio::awaitable<void> EndPieces();

  // The connection ends after the next response.
  void DoNotKeepAlive() { keep_alive_ = false; }
  bool keeps_alive() const { return keep_alive_; }
  // Lets the client read what was written before the connection closes, even where it still sends.
  asio::awaitable<void> Finish();

  // For a WebSocket: the header as the library has it, and the stream. The connection is of no more use.
  beast::http::request_header<> TakeHeader() { return std::move(parser_->get().base()); }
  AnyStream TakeStream() { return std::move(stream_); }
  // Bytes came behind the header that no body accounts for.
  bool has_more() const { return buffer_.size() > 0; }
  AnyStream& stream() { return stream_; }

 private:
  using Parser = beast::http::request_parser<beast::http::buffer_body>;

  bool TakeRequest();
  void ExpireAfter(double seconds) { stream_.tcp().expires_after(Nanoseconds(std::chrono::duration<double>(seconds))); }
  template <class Message>
  void SetFields(Message& message, const HttpResponse& response) const;

  AnyStream stream_;
  const HttpLimits limits_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  HttpRequest request_;
  std::optional<HttpResponse> error_response_;
  bool first_ = true, keep_alive_ = true, in_chunks_ = false;
};

}  // namespace earshot
