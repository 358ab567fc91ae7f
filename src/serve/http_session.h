// A connection that speaks HTTP/1.1: one request after the other, until it ends or becomes a WebSocket.
//
//   co_await ServeHttp(AnyStream(std::move(socket), tls), context, std::move(hold));
//
// Runs on the stream's executor until the connection is gone. Requests are read in pieces, and no more than the options
// allow; while a recording is transcribed the thread is free for others.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>

#include "src/serve/any_stream.h"
#include "src/serve/server_context.h"

namespace earshot {

// hold: of the connections that are open.
asio::awaitable<void> ServeHttp(AnyStream stream, std::shared_ptr<ServerContext> context, GaugeHold hold);

}  // namespace earshot
