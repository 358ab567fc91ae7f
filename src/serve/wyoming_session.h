// A TCP connection that speaks the Wyoming protocol.
//
//   co_await ServeWyoming(std::move(socket), context);
//
// Runs on the socket's executor until the connection is gone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "src/serve/server_context.h"

namespace earshot {

boost::asio::awaitable<void> ServeWyoming(boost::asio::ip::tcp::socket socket, std::shared_ptr<ServerContext> context);

}  // namespace earshot
