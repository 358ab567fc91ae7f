#include "src/serve/server_options.h"

#include "src/base/error.h"

namespace earshot {

void ServerOptions::Visit(OptionVisitor& v) {
  v.Field("host", host);
  v.Field("port", port);
  v.Field("wyoming_port", wyoming_port);
  v.Field("cert", cert);
  v.Field("key", key);
  v.Field("tokens", tokens);
  v.Field("allow_origins", allow_origins);
  v.Field("io_threads", io_threads);
  v.Field("max_connections", max_connections);
  v.Field("header_timeout_s", header_timeout_s);
  v.Field("idle_timeout_s", idle_timeout_s);
  v.Field("drain_s", drain_s);
  v.Field("max_header_bytes", max_header_bytes);
  v.Field("max_upload_bytes", max_upload_bytes);
  v.Field("max_message_bytes", max_message_bytes);
  v.Field("max_unsent_bytes", max_unsent_bytes);
  v.Field("max_queued_s", max_queued_s);
  v.Field("upload_dir", upload_dir);
}

void ServerOptions::Validate() const {
  if (host.empty()) Throw("host: empty, expected an address such as 127.0.0.1, or 0.0.0.0 for every network");
  if (port < 0 || port > 65535) Throw("port: {}, expected 1 to 65535, or 0 for any", port);
  if (wyoming_port < -1 || wyoming_port > 65535)
    Throw("wyoming_port: {}, expected 1 to 65535, 0 for any or -1 for none", wyoming_port);
  if (cert.empty() != key.empty())
    Throw("{}: missing, and {} is given; TLS needs both", cert.empty() ? "cert" : "key", cert.empty() ? "key" : "cert");
  for (const std::string& token : tokens) {
    if (token.empty() || token.find_first_of(" \t\r\n,") != std::string::npos)
      Throw("tokens: one is empty, or has a blank or a comma in it");
  }
  for (const std::string& origin : allow_origins) {
    if (origin != "*" && (origin.find("://") == std::string::npos || origin.back() == '/'))
      Throw("allow_origins: '{}', expected * or a scheme and host without a path, https://example.org", origin);
  }
  if (io_threads < 1 || io_threads > 256) Throw("io_threads: {}, expected 1 to 256", io_threads);
  if (max_connections < 1) Throw("max_connections: {}, expected 1 or more", max_connections);
  const std::pair<const char*, double> times[] = {
      {"header_timeout_s", header_timeout_s}, {"idle_timeout_s", idle_timeout_s}, {"max_queued_s", max_queued_s}};
  for (const auto& [name, value] : times) {
    if (!(value > 0 && value <= 86400)) Throw("{}: {} s, expected more than 0, at most 86400", name, value);
  }
  if (!(drain_s >= 0 && drain_s <= 86400)) Throw("drain_s: {} s, expected 0 to 86400", drain_s);
  const std::pair<const char*, int64_t> sizes[] = {{"max_header_bytes", max_header_bytes},
                                                   {"max_upload_bytes", max_upload_bytes},
                                                   {"max_message_bytes", max_message_bytes},
                                                   {"max_unsent_bytes", max_unsent_bytes}};
  for (const auto& [name, value] : sizes) {
    if (value < 256) Throw("{}: {} bytes, expected 256 or more", name, value);
  }
}

}  // namespace earshot
