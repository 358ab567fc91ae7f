// Who may ask: bearer tokens, and which web pages.
//
//   AccessPolicy access({.tokens = {"secret"}, .allow_origins = {"https://example.org"}, .local_only = true});
//   if (!access.AllowsOrigin(request)) ...403
//   if (!access.AllowsToken(request)) ...401
//
// Thread-safe.
#pragma once

#include <string>
#include <vector>

#include "src/serve/http_message.h"

namespace earshot {

struct AccessOptions {
  // Empty: whoever reaches the port may use it.
  std::vector<std::string> tokens;
  // Further pages that may use the server, "https://example.org"; "*": all.
  std::vector<std::string> allow_origins;
  // The server is bound to this machine alone: then a page that reached it by another name was tricked in its name
  // lookup (DNS rebinding), and is not of the server.
  bool local_only = true;
};

class AccessPolicy {
 public:
  explicit AccessPolicy(const AccessOptions& options);

  // The token in "Authorization: Bearer", or for browsers, which cannot set that on a WebSocket, in a subprotocol:
  // "openai-insecure-api-key.TOKEN", or "bearer.TOKEN" with the token in base64url without padding.
  bool AllowsToken(const HttpRequest& request) const;
  // Whether the page that asks, by its header Origin, is the server's own or allowed. Programs send none.
  bool AllowsOrigin(const HttpRequest& request) const;
  // Whether the answer is to name the origin, so that the browser lets its page read it: allowed ones.
  bool IsForeignOrigin(const HttpRequest& request) const;

 private:
  bool IsListed(std::string_view origin) const;

  AccessOptions options_;
  std::vector<std::string> digests_;
};

// The parts of "a, b,c", in order, without blanks round them.
std::vector<std::string> SplitList(std::string_view header);

}  // namespace earshot
