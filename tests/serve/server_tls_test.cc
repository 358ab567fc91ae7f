// TLS with a certificate that is made here.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <memory>

#include "src/audio/unique_fd.h"
#include "tests/serve/server_fixture.h"

namespace earshot {
namespace {

class TlsTest : public ServerFixture {
 protected:
  // Makes NAME.pem and NAME.key.
  bool MakeCertificate(const std::string& name) {
    const std::string command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout " +
                                keys_.Path(name + ".key") + " -out " + keys_.Path(name + ".pem") + " 2>/dev/null";
    return std::system(command.c_str()) == 0;
  }

  // What a client that trusts NAME.pem gets for its bytes; "no trust" where it does not trust the server.
  std::string Ask(const std::string& trusted, const std::string& bytes) {
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_load_verify_locations(context.get(), keys_.Path(trusted + ".pem").c_str(), nullptr);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return "no connection";
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    SSL_set_fd(ssl.get(), fd.get());
    if (SSL_connect(ssl.get()) != 1) return "no trust";
    SSL_write(ssl.get(), bytes.data(), static_cast<int>(bytes.size()));
    std::string answer(1 << 16, '\0');
    size_t size = 0;
    int n;
    while ((n = SSL_read(ssl.get(), answer.data() + size, static_cast<int>(answer.size() - size))) > 0)
      size += static_cast<size_t>(n);
    answer.resize(size);
    // The end was said, not merely cut.
    if (SSL_get_error(ssl.get(), n) != SSL_ERROR_ZERO_RETURN) answer += " (cut)";
    SSL_shutdown(ssl.get());
    return answer;
  }

  const TempFolder& keys_ = uploads_;
};

TEST_F(TlsTest, ServesThoseWhoTrustIt) {
  if (!MakeCertificate("server") || !MakeCertificate("other")) GTEST_SKIP() << "there is no program openssl";
  options_.cert = keys_.Path("server.pem");
  options_.key = keys_.Path("server.key");
  Begin();
  EXPECT_TRUE(server_->url().starts_with("https://127.0.0.1:"));
  const std::string request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  const std::string answer = Ask("server", request);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n")) << answer;
  EXPECT_EQ(Ask("other", request), "no trust");
  // A recording goes the same way.
  const std::string transcript = Ask("server", TranscriptionRequestBytes(Sound(2), "", "Connection: close\r\n"));
  EXPECT_NE(transcript.find("\"text\":\"w0 w1\""), std::string::npos) << transcript;
  // Who speaks no TLS is let go.
  TestClient plain(port_);
  plain.Send(request);
  EXPECT_TRUE(plain.ClosesWithin(5));
  EXPECT_TRUE(AllGone());
}

TEST_F(TlsTest, AForeignKeyIsAnError) {
  if (!MakeCertificate("server") || !MakeCertificate("other")) GTEST_SKIP() << "there is no program openssl";
  options_.cert = keys_.Path("server.pem");
  options_.key = keys_.Path("other.key");
  EXPECT_THROW(Begin(), std::exception);
}

}  // namespace
}  // namespace earshot
