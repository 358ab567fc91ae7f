// Which request goes where, and which goes nowhere.
//
//   const std::variant<Endpoint, HttpResponse> answer = Admit(request, access, draining);
//   if (const auto* refusal = std::get_if<HttpResponse>(&answer)) ...       // 403, 404, 405, 401, 426 or 503
//
//   /                            the page; as a WebSocket: Vosk's protocol
//   /static/*                    its files
//   /healthz /readyz /metrics
//   /v1/models /v1/models/{id}
//   /v1/audio/transcriptions     POST
//   /v1/realtime /v1/stream /vosk    WebSockets
//
// Free functions, thread-safe.
#pragma once

#include <variant>

#include "src/serve/http_message.h"
#include "src/serve/server_context.h"

namespace earshot {

enum class Endpoint {
  kAsset,
  kHealth,
  kReady,
  kMetrics,
  kModels,
  kModel,
  kTranscriptions,
  kPreflight,  // a browser asks whether its page may ask
  kRealtime,
  kVosk,
  kStream,
};

inline bool IsWebSocket(Endpoint endpoint) { return endpoint >= Endpoint::kRealtime; }

std::variant<Endpoint, HttpResponse> Admit(const HttpRequest& request, const AccessPolicy& access, bool draining);

// The answer of an endpoint that needs neither the model nor a body: all but kTranscriptions and the WebSockets.
HttpResponse Answer(Endpoint endpoint, const HttpRequest& request, ServerContext& context);

// Headers that every answer carries.
void AddCommonHeaders(const HttpRequest& request, const AccessPolicy& access, HttpResponse& response);

}  // namespace earshot
