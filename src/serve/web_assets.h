// The files of the web page, src/serve/web, as they were built into the program.
//
//   const WebAsset* asset = FindWebAsset("/static/app.js");    // "/" is index.html; nullptr: there is no such file
//
// Only what is in the table is served: no path of the file system is ever made from a request's. Thread-safe.
#pragma once

#include <span>
#include <string_view>

#include "src/serve/http_message.h"

namespace earshot {

struct WebAsset {
  std::string_view path;  // "/static/app.js"
  std::string_view mime_type;
  std::string_view bytes;
  std::string_view etag;  // quoted, of the content
};

std::span<const WebAsset> WebAssets();
const WebAsset* FindWebAsset(std::string_view path);

// With what a browser is to know of it: 304 where it has the file already, and what the page may do.
HttpResponse ServeWebAsset(const WebAsset& asset, const HttpRequest& request);

}  // namespace earshot
