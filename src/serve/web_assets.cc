#include "src/serve/web_assets.h"

#include <algorithm>

#include "src/serve/access.h"

namespace earshot {
namespace {

// Scripts, styles and AudioWorklet modules from here alone; streams to whatever host the page was pointed at.
constexpr const char* kContentPolicy =
    "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

}  // namespace

const WebAsset* FindWebAsset(std::string_view path) {
  if (path == "/") path = "/static/index.html";
  const std::span<const WebAsset> assets = WebAssets();
  const auto found =
      std::find_if(assets.begin(), assets.end(), [&](const WebAsset& asset) { return asset.path == path; });
  return found == assets.end() ? nullptr : &*found;
}

HttpResponse ServeWebAsset(const WebAsset& asset, const HttpRequest& request) {
  HttpResponse response{.content_type = std::string(asset.mime_type)};
  response.headers = {{"ETag", std::string(asset.etag)},
                      {"Cache-Control", "no-cache"},
                      {"Content-Security-Policy", kContentPolicy},
                      {"Permissions-Policy", "microphone=(self), camera=(), geolocation=()"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"}};
  const std::vector<std::string> known = SplitList(request.Header("if-none-match"));
  const bool unchanged = std::any_of(known.begin(), known.end(), [&](const std::string& tag) {
    return tag == "*" || tag == asset.etag || (tag.starts_with("W/") && tag.substr(2) == asset.etag);
  });
  if (unchanged)
    response.status = 304;
  else
    response.body = std::string(asset.bytes);
  return response;
}

}  // namespace earshot
