// POST /v1/audio/transcriptions over a connection: the form to disk, the recording to the service, its words back.
//
//   co_await HandleTranscription(http, context);
//
// Returns when the request is answered. The file is removed, and the work stopped, in every case: also where the client
// goes away. On the connection's executor.
#pragma once

#include <boost/asio/awaitable.hpp>

#include "src/serve/http_connection.h"
#include "src/serve/server_context.h"

namespace earshot {

asio::awaitable<void> HandleTranscription(HttpConnection& http, ServerContext& context);

}  // namespace earshot
