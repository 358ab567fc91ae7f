// The server's side of TLS 1.2 and 1.3.
//
//   asio::ssl::context tls = LoadTls("cert.pem", "key.pem");
//
// Throws Error when a file cannot be read or the two do not belong together.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <string>

namespace earshot {

// PEM files; cert with the chain below it.
boost::asio::ssl::context LoadTls(const std::string& cert, const std::string& key);

}  // namespace earshot
