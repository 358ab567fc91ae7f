// A request and a response of HTTP as values, free of the library that carries them.
//
//   const std::string_view type = request.Header("content-type");
//   return HttpResponse{.status = 200, .content_type = "application/json", .body = ToText(json)};
//
// Plain values.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace earshot {

struct HttpRequest {
  std::string method = "GET";
  // "/v1/models": percent-decoded, without the query.
  std::string path = "/";
  std::map<std::string, std::string, std::less<>> query;
  // Names in lower case.
  std::multimap<std::string, std::string, std::less<>> headers;
  bool is_upgrade = false;  // to a WebSocket

  // The first of the name, in lower case; empty where there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// "/a%20b?c=d" into path and query; false where it is none of that.
bool ParseTarget(std::string_view target, HttpRequest& request);

// An error as OpenAI tells it: {"error": {"message", "type", "param", "code"}}. param and code: empty is null.
std::string ErrorJson(const std::string& message, const std::string& type, const std::string& param,
                      const std::string& code);
// The same as a response; the type follows from the status.
HttpResponse ErrorResponse(int status, const std::string& message, const std::string& code = "",
                           const std::string& param = "");

}  // namespace earshot
