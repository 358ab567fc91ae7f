// How a server listens, whom it lets in, and what it bears.
//
//   ServerOptions options{.port = 0, .tokens = {"secret"}};
//   options.Validate();
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/options.h"

namespace earshot {

struct ServerOptions {
  // The address to listen at: this machine alone, unless told. 0.0.0.0 or ::: every network.
  std::string host = "127.0.0.1";
  // 0: any that is free; Server::port() tells.
  int port = 8080;
  // Of the Wyoming protocol. -1: not served. 0: any.
  int wyoming_port = -1;
  // PEM files for TLS, both or none; the certificate with its chain.
  std::string cert, key;
  // Bearer tokens, any of which lets in. Empty: no token is needed.
  std::vector<std::string> tokens;
  // Web pages of other servers that may use this one, "https://example.org"; "*": all.
  std::vector<std::string> allow_origins;
  // Threads for the network. None ever waits for the model.
  int io_threads = 2;
  // Open connections of all protocols; one more is refused.
  int max_connections = 1024;
  // Seconds from the first byte of a request to the last of its header, and of handshakes.
  double header_timeout_s = 10;
  // Seconds that a connection may be silent; a ping of the client counts.
  double idle_timeout_s = 30;
  // Seconds in which streams and requests may end once the server is told to.
  double drain_s = 10;
  // Bytes of a request's header, of an uploaded file, and of a message of a WebSocket.
  int64_t max_header_bytes = 8 * 1024;
  int64_t max_upload_bytes = 100 * 1024 * 1024;
  int64_t max_message_bytes = 1024 * 1024;
  // Bytes of answers that wait for a client to read them; one that is further behind is dropped.
  int64_t max_unsent_bytes = 1024 * 1024;
  // Seconds of audio that may wait for the model before a stream's socket is read no further.
  double max_queued_s = 10;
  // The folder of uploads while they are transcribed. Empty: $TMPDIR, or /tmp.
  std::string upload_dir;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

}  // namespace earshot
