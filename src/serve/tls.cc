#include "src/serve/tls.h"

#include <string>

#include "src/base/error.h"

namespace earshot {

namespace ssl = boost::asio::ssl;

ssl::context LoadTls(const std::string& cert, const std::string& key) {
  ssl::context context(ssl::context::tls_server);
  context.set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 |
                      ssl::context::no_compression);
  boost::system::error_code error;
  // An encrypted key is an error: nobody is there to type its passphrase.
  context.set_password_callback([](size_t, ssl::context::password_purpose) { return std::string(); });
  context.use_certificate_chain_file(cert, error);
  if (error) Throw("{}: not a certificate in PEM form: {}", cert, error.message());
  context.use_private_key_file(key, ssl::context::pem, error);
  if (error) Throw("{}: not the certificate's private key in PEM form: {}", key, error.message());
  return context;
}

}  // namespace earshot
