#include "src/serve/http_connection.h"

#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/websocket/rfc6455.hpp>
#include <cctype>
#include <memory>

#include "src/base/error.h"

namespace earshot {
namespace {

namespace http = beast::http;

constexpr size_t kPieceBytes = 64 * 1024;

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

HttpConnection::HttpConnection(AnyStream stream, const HttpLimits& limits)
    : stream_(std::move(stream)), limits_(limits), buffer_(static_cast<size_t>(limits.header_bytes) + kPieceBytes) {}

asio::awaitable<bool> HttpConnection::ReadHeader() {
  beast::error_code error;
  // Between requests a client may rest; a request that has begun may not.
  if (buffer_.size() == 0) {
    ExpireAfter(first_ ? limits_.header_timeout_s : limits_.idle_timeout_s);
    const size_t size =
        co_await stream_.async_read_some(buffer_.prepare(4096), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    buffer_.commit(size);
  }
  first_ = false;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(limits_.header_bytes));
  parser_->body_limit(boost::none);
  ExpireAfter(limits_.header_timeout_s);
  co_await http::async_read_header(stream_, buffer_, *parser_, asio::redirect_error(asio::use_awaitable, error));
  if (!error && TakeRequest()) co_return true;
  keep_alive_ = false;
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    error_response_ =
        ErrorResponse(431, fmt::format("the header has more than {} bytes", limits_.header_bytes), "header_too_large");
  else if (!error || (error.category() == make_error_code(http::error::bad_method).category() &&
                      error != http::error::end_of_stream && error != http::error::partial_message))
    error_response_ = ErrorResponse(400,
                                    error ? fmt::format("no HTTP request: {}", error.message())
                                          : std::string("the request's target or body's length is not valid"),
                                    "bad_request");
  co_return false;
}

bool HttpConnection::TakeRequest() {
  const http::request<http::buffer_body>& message = parser_->get();
  request_ = HttpRequest{.method = std::string(View(message.method_string()))};
  keep_alive_ = keep_alive_ && message.keep_alive();
  for (const auto& field : message) {
    std::string name(View(field.name_string()));
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    request_.headers.emplace(std::move(name), std::string(View(field.value())));
  }
  request_.is_upgrade = beast::websocket::is_upgrade(message);
  return ParseTarget(View(message.target()), request_);
}

int64_t HttpConnection::body_bytes() const {
  if (parser_->chunked()) return -1;
  const auto length = parser_->content_length();
  return length ? static_cast<int64_t>(std::min<uint64_t>(*length, INT64_MAX)) : 0;
}

asio::awaitable<bool> HttpConnection::ReadBody(const std::function<void(std::string_view bytes)>& receive) {
  beast::error_code error;
  if (http::token_list(request_.headers.contains("expect") ? std::string(request_.Header("expect")) : std::string())
          .exists("100-continue") &&
      buffer_.size() == 0) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    ExpireAfter(limits_.idle_timeout_s);
    co_await asio::async_write(stream_, asio::buffer(kContinue), asio::use_awaitable);
  }
  const auto piece = std::make_unique<std::array<char, kPieceBytes>>();
  while (!parser_->is_done()) {
    auto& body = parser_->get().body();
    body.data = piece->data();
    body.size = piece->size();
    // A piece in this time: whoever sends more slowly than that is not waited for.
    ExpireAfter(limits_.idle_timeout_s);
    co_await http::async_read(stream_, buffer_, *parser_, asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::need_buffer) error = {};
    if (error) break;
    receive(std::string_view(piece->data(), piece->size() - body.size));
  }
  if (!error) co_return true;
  keep_alive_ = false;
  if (error == http::error::partial_message || error == beast::error::timeout ||
      error.category() != make_error_code(http::error::bad_method).category())
    throw boost::system::system_error(error);
  error_response_ = ErrorResponse(400, fmt::format("the body is damaged: {}", error.message()), "bad_request");
  co_return false;
}

template <class Message>
void HttpConnection::SetFields(Message& message, const HttpResponse& response) const {
  message.result(static_cast<unsigned>(response.status));
  message.version(parser_ && parser_->is_header_done() ? parser_->get().version() : 11);
  if (!response.content_type.empty() && response.status != 304)
    message.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) message.insert(name, value);
}

asio::awaitable<void> HttpConnection::Write(HttpResponse response) {
  // What was not read of the body would be taken for the next request.
  if (!parser_ || !parser_->is_done()) keep_alive_ = false;
  const bool head = request_.method == "HEAD";
  const bool bodyless = response.status == 304 || response.status == 204;
  ExpireAfter(limits_.idle_timeout_s);
  if (head || bodyless) {
    http::response<http::empty_body> message;
    SetFields(message, response);
    message.keep_alive(keep_alive_);
    if (!bodyless) message.content_length(response.body.size());
    co_await http::async_write(stream_, message, asio::use_awaitable);
  } else {
    http::response<http::string_body> message;
    SetFields(message, response);
    message.body() = std::move(response.body);
    message.keep_alive(keep_alive_);
    message.prepare_payload();
    co_await http::async_write(stream_, message, asio::use_awaitable);
  }
}

asio::awaitable<void> HttpConnection::BeginPieces(HttpResponse response) {
  http::response<http::empty_body> message;
  SetFields(message, response);
  // Before HTTP/1.1 the end of the connection is the end of the response.
  in_chunks_ = message.version() >= 11;
  if (!in_chunks_ || !parser_->is_done()) keep_alive_ = false;
  message.keep_alive(keep_alive_);
  if (in_chunks_) message.chunked(true);
  http::response_serializer<http::empty_body> serializer(message);
  ExpireAfter(limits_.idle_timeout_s);
  co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
}

asio::awaitable<void> HttpConnection::WritePiece(std::string_view bytes) {
  ExpireAfter(limits_.idle_timeout_s);
  const asio::const_buffer buffer(bytes.data(), bytes.size());
  if (in_chunks_)
    co_await asio::async_write(stream_, http::make_chunk(buffer), asio::use_awaitable);
  else
    co_await asio::async_write(stream_, buffer, asio::use_awaitable);
}

asio::awaitable<void> HttpConnection::EndPieces() {
  ExpireAfter(limits_.idle_timeout_s);
  if (in_chunks_) co_await asio::async_write(stream_, http::make_chunk_last(), asio::use_awaitable);
}

asio::awaitable<void> HttpConnection::Finish() {
  const bool unread = !parser_ || !parser_->is_done() || has_more();
  co_await stream_.Leave(unread ? AnyStream::kLingerTime : std::chrono::seconds(1));
}

}  // namespace earshot
