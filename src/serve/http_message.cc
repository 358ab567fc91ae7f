#include "src/serve/http_message.h"

#include "src/serve/json.h"

namespace earshot {
namespace {

int FromHex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> Unescape(std::string_view text, bool plus_is_blank) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_blank) {
      plain += ' ';
    } else if (text[i] != '%') {
      plain += text[i];
    } else {
      const int high = i + 2 < text.size() ? FromHex(text[i + 1]) : -1, low = high < 0 ? -1 : FromHex(text[i + 2]);
      if (low < 0) return {};
      plain += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return plain;
}

const char* ErrorType(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 429: return "rate_limit_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

bool ParseTarget(std::string_view target, HttpRequest& request) {
  if (target.empty() || target.front() != '/') return false;
  target = target.substr(0, target.find('#'));
  const size_t question = target.find('?');
  const std::optional<std::string> path = Unescape(target.substr(0, question), false);
  if (!path || path->find('\0') != std::string::npos) return false;
  request.path = *path;
  std::string_view rest = question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    const size_t equals = pair.find('=');
    const auto key = Unescape(pair.substr(0, equals), true);
    const auto value = Unescape(equals == std::string_view::npos ? "" : pair.substr(equals + 1), true);
    if (!key || !value) return false;
    request.query.emplace(*key, *value);
  }
  return true;
}

std::string ErrorJson(const std::string& message, const std::string& type, const std::string& param,
                      const std::string& code) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return ToText(
      {{"error", {{"message", message}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}}}});
}

HttpResponse ErrorResponse(int status, const std::string& message, const std::string& code, const std::string& param) {
  HttpResponse response{.status = status, .content_type = "application/json"};
  response.body = ErrorJson(message, ErrorType(status), param, code);
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "5");
  return response;
}

}  // namespace earshot
