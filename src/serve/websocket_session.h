// A WebSocket and the protocol spoken over it: reads messages, writes what the protocol sends, closes in time.
//
//   co_await ServeWebSocket(std::move(stream), request, context, std::move(slot), MakeProtocol);
//
// Runs on the stream's executor until the connection is gone. A client that does not read, one that says nothing, and
// one whose message is too large are let go as StreamConnection and the options say.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <functional>
#include <memory>

#include "src/serve/any_stream.h"
#include "src/serve/server_context.h"
#include "src/serve/stream_protocol.h"

namespace earshot {

// request: the upgrade, already let in. slot: the connection's place among the streams.
asio::awaitable<void> ServeWebSocket(AnyStream stream, beast::http::request<beast::http::empty_body> request,
                                     std::shared_ptr<ServerContext> context, GaugeHold slot,
                                     std::function<std::unique_ptr<StreamProtocol>(StreamHost&)> make_protocol);

}  // namespace earshot
