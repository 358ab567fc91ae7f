#include "src/serve/codes.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>

#include "src/base/error.h"

namespace earshot {
namespace {

const unsigned char* Bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* Bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

}  // namespace

std::optional<std::string> DecodeBase64(std::string_view text) {
  if (text.empty()) return std::string();
  // OpenSSL takes '=' for a zero wherever it stands, and blanks at both ends.
  const size_t digits = text.find_first_of("= \t\r\n");
  const size_t padding = digits == std::string_view::npos ? 0 : text.size() - digits;
  if (text.size() % 4 != 0 || padding > 2 || text.substr(text.size() - padding) != std::string(padding, '=')) return {};
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(Bytes(bytes), Bytes(text), static_cast<int>(text.size()));
  if (size < 0) return {};
  bytes.resize(static_cast<size_t>(size) - padding);
  return bytes;
}

std::string EncodeBase64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // and a terminating 0
  text.resize(static_cast<size_t>(EVP_EncodeBlock(Bytes(text), Bytes(bytes), static_cast<int>(bytes.size()))));
  return text;
}

std::string NewId(std::string_view prefix) {
  std::array<unsigned char, 12> random;
  if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) Throw("no random numbers from OpenSSL");
  std::string id(prefix);
  for (const unsigned char byte : random) id += fmt::format("{:02x}", byte);
  return id;
}

std::string Sha256(std::string_view bytes) {
  std::string digest(32, '\0');
  EVP_Digest(bytes.data(), bytes.size(), Bytes(digest), nullptr, EVP_sha256(), nullptr);
  return digest;
}

bool EqualInConstantTime(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace earshot
