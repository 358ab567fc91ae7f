#include "src/serve/access.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

#include "src/serve/codes.h"

namespace earshot {
namespace {

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Subprotocols that carry a token: OpenAI's, as it is, and the page's, in base64url without padding.
constexpr std::string_view kPlainProtocol = "openai-insecure-api-key.", kEncodedProtocol = "bearer.";

std::string DecodeBase64Url(std::string text) {
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  text.append((4 - text.size() % 4) % 4, '=');
  return DecodeBase64(text).value_or("");
}

// What the request gives for a token; empty: nothing.
std::string GivenToken(const HttpRequest& request) {
  const std::string_view header = request.Header("authorization");
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() > kScheme.size() && EqualIgnoringCase(header.substr(0, kScheme.size()), kScheme)) {
    const size_t begin = header.find_first_not_of(' ', kScheme.size());
    return begin == std::string_view::npos ? std::string() : std::string(header.substr(begin));
  }
  for (const std::string& protocol : SplitList(request.Header("sec-websocket-protocol"))) {
    if (protocol.starts_with(kPlainProtocol)) return protocol.substr(kPlainProtocol.size());
    if (protocol.starts_with(kEncodedProtocol)) return DecodeBase64Url(protocol.substr(kEncodedProtocol.size()));
  }
  return "";
}

// "http://localhost:8080" -> "localhost:8080", without the scheme's own port.
std::string_view HostOfOrigin(std::string_view origin) {
  for (const auto& [scheme, port] : {std::pair<std::string_view, std::string_view>{"http://", ":80"},
                                     std::pair<std::string_view, std::string_view>{"https://", ":443"}}) {
    if (origin.size() < scheme.size() || !EqualIgnoringCase(origin.substr(0, scheme.size()), scheme)) continue;
    std::string_view host = origin.substr(scheme.size());
    if (host.ends_with(port)) host.remove_suffix(port.size());
    return host;
  }
  return {};
}

// A name that only looks like one of this machine's addresses, 127.example.org, may belong to anybody.
bool IsLoopbackAddress(std::string_view host) {
  in_addr address{};
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

bool IsLocalHost(std::string_view host) {
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) host = host.substr(0, colon);
  return EqualIgnoringCase(host, "localhost") || IsLoopbackAddress(host) || host == "[::1]";
}

}  // namespace

AccessPolicy::AccessPolicy(const AccessOptions& options) : options_(options) {
  for (const std::string& token : options.tokens) digests_.push_back(Sha256(token));
}

bool AccessPolicy::AllowsToken(const HttpRequest& request) const {
  if (digests_.empty()) return true;
  // Digests are of one length, so that the comparison tells nothing of a token's; all are compared.
  const std::string digest = Sha256(GivenToken(request));
  bool allowed = false;
  for (const std::string& known : digests_) allowed |= EqualInConstantTime(digest, known);
  return allowed;
}

bool AccessPolicy::IsListed(std::string_view origin) const {
  return std::any_of(options_.allow_origins.begin(), options_.allow_origins.end(),
                     [&](const std::string& allowed) { return allowed == "*" || EqualIgnoringCase(allowed, origin); });
}

bool AccessPolicy::AllowsOrigin(const HttpRequest& request) const {
  if (!request.headers.contains("origin")) return true;
  const std::string_view origin = request.Header("origin");
  if (IsListed(origin)) return true;
  const std::string_view page = HostOfOrigin(origin);
  std::string_view host = request.Header("host");
  for (const std::string_view port : {":80", ":443"}) {
    if (host.ends_with(port)) host.remove_suffix(port.size());
  }
  if (page.empty() || !EqualIgnoringCase(page, host)) return false;
  return !options_.local_only || IsLocalHost(page);
}

bool AccessPolicy::IsForeignOrigin(const HttpRequest& request) const {
  return request.headers.contains("origin") && IsListed(request.Header("origin"));
}

std::vector<std::string> SplitList(std::string_view header) {
  std::vector<std::string> parts;
  while (!header.empty()) {
    std::string_view part = header.substr(0, header.find(','));
    header.remove_prefix(std::min(part.size() + 1, header.size()));
    while (part.starts_with(' ') || part.starts_with('\t')) part.remove_prefix(1);
    while (part.ends_with(' ') || part.ends_with('\t')) part.remove_suffix(1);
    if (!part.empty()) parts.emplace_back(part);
  }
  return parts;
}

}  // namespace earshot
