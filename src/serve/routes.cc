#include "src/serve/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "src/serve/json.h"
#include "src/serve/web_assets.h"

namespace earshot {
namespace {

constexpr std::string_view kModelsPrefix = "/v1/models/";

struct Route {
  Endpoint endpoint;
  const char* methods;  // as Allow names them
  bool needs_token;
};

constexpr const char* kRead = "GET, HEAD, OPTIONS";

std::optional<Route> FindRoute(const HttpRequest& request) {
  const std::string_view path = request.path;
  if (path == "/healthz") return Route{Endpoint::kHealth, kRead, false};
  if (path == "/readyz") return Route{Endpoint::kReady, kRead, false};
  if (path == "/metrics") return Route{Endpoint::kMetrics, kRead, true};
  if (path == "/v1/models") return Route{Endpoint::kModels, kRead, true};
  if (path.starts_with(kModelsPrefix)) return Route{Endpoint::kModel, kRead, true};
  if (path == "/v1/audio/transcriptions") return Route{Endpoint::kTranscriptions, "POST, OPTIONS", true};
  if (path == "/v1/realtime") return Route{Endpoint::kRealtime, "GET, OPTIONS", true};
  if (path == "/v1/stream") return Route{Endpoint::kStream, "GET, OPTIONS", true};
  if (path == "/vosk" || (path == "/" && request.is_upgrade)) return Route{Endpoint::kVosk, "GET, OPTIONS", true};
  if (FindWebAsset(path)) return Route{Endpoint::kAsset, kRead, false};
  return {};
}

bool Allows(const char* methods, const std::string& method) {
  const std::vector<std::string> names = SplitList(methods);
  return std::find(names.begin(), names.end(), method) != names.end();
}

Json ModelJson(const ServiceInfo& info) {
  return {{"id", info.model}, {"object", "model"}, {"created", 0}, {"owned_by", "earshot"}};
}

HttpResponse JsonResponse(const Json& json) { return {.content_type = "application/json", .body = ToText(json)}; }

HttpResponse Preflight(const HttpRequest& request) {
  HttpResponse response{.status = 204, .content_type = ""};
  const std::optional<Route> route = FindRoute(request);
  const std::string methods = route ? route->methods : kRead;
  response.headers = {{"Allow", methods},
                      {"Access-Control-Allow-Methods", methods},
                      {"Access-Control-Allow-Headers", "Authorization, Content-Type, OpenAI-Beta"},
                      {"Access-Control-Max-Age", "600"}};
  return response;
}

}  // namespace

std::variant<Endpoint, HttpResponse> Admit(const HttpRequest& request, const AccessPolicy& access, bool draining) {
  if (!access.AllowsOrigin(request))
    return ErrorResponse(403,
                         fmt::format("pages of '{}' may not use this server; start it with --allow-origin to let them",
                                     request.Header("origin")),
                         "origin_not_allowed");
  const std::optional<Route> route = FindRoute(request);
  if (!route) return ErrorResponse(404, fmt::format("there is nothing at {}", request.path), "not_found");
  if (!Allows(route->methods, request.method)) {
    HttpResponse response = ErrorResponse(
        405, fmt::format("{} cannot be used at {}; expected {}", request.method, request.path, route->methods),
        "method_not_allowed");
    response.headers.emplace_back("Allow", route->methods);
    return response;
  }
  // Without the token: a browser's question never carries it.
  if (request.method == "OPTIONS") return Endpoint::kPreflight;
  if (route->needs_token && !access.AllowsToken(request))
    return ErrorResponse(401, "a bearer token is needed: Authorization: Bearer TOKEN", "invalid_api_key");
  if (IsWebSocket(route->endpoint) && !request.is_upgrade) {
    HttpResponse response = ErrorResponse(426, fmt::format("{} is a WebSocket", request.path), "upgrade_required");
    response.headers.emplace_back("Upgrade", "websocket");
    return response;
  }
  if (draining && (IsWebSocket(route->endpoint) || route->endpoint == Endpoint::kTranscriptions))
    return ErrorResponse(503, "the server is about to end", "draining");
  return route->endpoint;
}

HttpResponse Answer(Endpoint endpoint, const HttpRequest& request, ServerContext& context) {
  const ServiceInfo& info = context.service.info();
  switch (endpoint) {
    case Endpoint::kAsset: return ServeWebAsset(*FindWebAsset(request.path), request);
    case Endpoint::kHealth: return {.body = "ok\n"};
    case Endpoint::kReady:
      if (!context.metrics.draining) return {.body = "ready\n"};
      return {.status = 503, .body = "draining\n"};
    case Endpoint::kMetrics:
      return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
              .body = context.metrics.Format(context.service.Stats(), info)};
    case Endpoint::kModels: return JsonResponse({{"object", "list"}, {"data", Json::array({ModelJson(info)})}});
    case Endpoint::kModel: {
      const std::string id = request.path.substr(kModelsPrefix.size());
      if (id == info.model) return JsonResponse(ModelJson(info));
      return ErrorResponse(404, fmt::format("the model '{}' is not served here", id), "model_not_found", "model");
    }
    case Endpoint::kPreflight: return Preflight(request);
    case Endpoint::kTranscriptions:
    case Endpoint::kRealtime:
    case Endpoint::kVosk:
    case Endpoint::kStream: break;
  }
  return ErrorResponse(500, "this endpoint has no such answer");
}

void AddCommonHeaders(const HttpRequest& request, const AccessPolicy& access, HttpResponse& response) {
  response.headers.emplace_back("Server", "earshot");
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  if (!access.IsForeignOrigin(request)) return;
  response.headers.emplace_back("Access-Control-Allow-Origin", std::string(request.Header("origin")));
  response.headers.emplace_back("Vary", "Origin");
}

}  // namespace earshot
