#include "src/serve/http_session.h"

#include <boost/system/system_error.hpp>
#include <functional>
#include <utility>
#include <variant>

#include "src/base/log.h"
#include "src/serve/http_connection.h"
#include "src/serve/openai_realtime.h"
#include "src/serve/page_protocol.h"
#include "src/serve/routes.h"
#include "src/serve/transcription_handler.h"
#include "src/serve/vosk_protocol.h"
#include "src/serve/websocket_session.h"

namespace earshot {
namespace {

// A body that an endpoint has no use for, up to which it is read so that the connection can go on.
constexpr int64_t kUnusedBody = 64 * 1024;

using MakeProtocol = std::function<std::unique_ptr<StreamProtocol>(StreamHost&)>;

// nullptr in the pair: a refusal.
std::variant<MakeProtocol, HttpResponse> ChooseProtocol(Endpoint endpoint, const HttpRequest& request,
                                                        const ServiceInfo& info) {
  const auto model = request.query.find("model");
  if (model != request.query.end() && model->second != info.model)
    return ErrorResponse(404,
                         fmt::format("the model '{}' is not served here; expected '{}'", model->second, info.model),
                         "model_not_found", "model");
  if (endpoint == Endpoint::kVosk) return [](StreamHost& host) { return std::make_unique<VoskProtocol>(host); };
  if (endpoint == Endpoint::kStream) return [](StreamHost& host) { return std::make_unique<PageProtocol>(host); };
  const auto intent = request.query.find("intent");
  if (intent != request.query.end() && intent->second != "transcription")
    return ErrorResponse(400, fmt::format("intent '{}', expected transcription", intent->second), "invalid_value",
                         "intent");
  const bool beta = request.Header("openai-beta").find("realtime=v1") != std::string_view::npos;
  const RealtimeDialect dialect = beta ? RealtimeDialect::kBeta : RealtimeDialect::kGeneral;
  return [dialect](StreamHost& host) { return std::make_unique<OpenAiRealtime>(host, dialect); };
}

asio::awaitable<void> Respond(HttpConnection& http, ServerContext& context, HttpResponse response) {
  AddCommonHeaders(http.request(), context.access, response);
  context.metrics.CountResponse(response.status);
  LogDebug("{} {} {}", http.request().method, http.request().path, response.status);
  co_await http.Write(std::move(response));
}

enum class Next { kRequest, kClose, kGone };

Next AfterResponse(const HttpConnection& http) { return http.keeps_alive() ? Next::kRequest : Next::kClose; }

// The connection becomes a WebSocket, and is gone with it; or is told why not.
asio::awaitable<Next> Upgrade(HttpConnection& http, std::shared_ptr<ServerContext> context, GaugeHold& hold,
                              Endpoint endpoint) {
  std::variant<MakeProtocol, HttpResponse> choice = ChooseProtocol(endpoint, http.request(), context->service.info());
  if (HttpResponse* refusal = std::get_if<HttpResponse>(&choice)) {
    co_await Respond(http, *context, std::move(*refusal));
    co_return AfterResponse(http);
  }
  GaugeHold slot = context->TakeStreamSlot();
  if (!slot || http.has_more()) {
    HttpResponse refusal = slot ? ErrorResponse(400, "a WebSocket's first message came before the answer")
                                : ErrorResponse(429, "all streams are taken; try again later", "rate_limit_exceeded");
    co_await Respond(http, *context, std::move(refusal));
    co_return AfterResponse(http);
  }
  hold.Release();
  beast::http::request<beast::http::empty_body> request(http.TakeHeader());
  co_await ServeWebSocket(http.TakeStream(), std::move(request), context, std::move(slot),
                          std::move(std::get<MakeProtocol>(choice)));
  co_return Next::kGone;
}

asio::awaitable<Next> ServeRequest(HttpConnection& http, std::shared_ptr<ServerContext> context, GaugeHold& hold) {
  std::variant<Endpoint, HttpResponse> answer = Admit(http.request(), context->access, context->metrics.draining);
  const Endpoint* endpoint = std::get_if<Endpoint>(&answer);
  if (endpoint && *endpoint == Endpoint::kTranscriptions) {
    co_await HandleTranscription(http, *context);
    co_return AfterResponse(http);
  }
  if (endpoint && IsWebSocket(*endpoint)) co_return co_await Upgrade(http, context, hold, *endpoint);
  if (http.body_bytes() > 0 && http.body_bytes() <= kUnusedBody) {
    const std::function<void(std::string_view)> ignore = [](std::string_view) {};
    if (endpoint) co_await http.ReadBody(ignore);
  }
  HttpResponse response =
      endpoint ? Answer(*endpoint, http.request(), *context) : std::move(std::get<HttpResponse>(answer));
  co_await Respond(http, *context, std::move(response));
  co_return AfterResponse(http);
}

}  // namespace

asio::awaitable<void> ServeHttp(AnyStream stream, std::shared_ptr<ServerContext> context, GaugeHold hold) {
  const ServerOptions& options = context->options;
  try {
    co_await stream.Handshake(std::chrono::duration<double>(options.header_timeout_s));
    const HttpLimits limits{.header_bytes = options.max_header_bytes,
                            .header_timeout_s = options.header_timeout_s,
                            .idle_timeout_s = options.idle_timeout_s};
    HttpConnection http(std::move(stream), limits);
    for (Next next = Next::kRequest; next == Next::kRequest;) {
      const bool understood = co_await http.ReadHeader();
      if (understood) {
        next = co_await ServeRequest(http, context, hold);
        if (next == Next::kGone) co_return;
      } else {
        if (!http.error_response()) co_return;
        co_await Respond(http, *context, *http.error_response());
        break;
      }
    }
    co_await http.Finish();
  } catch (const boost::system::system_error& e) {
    // The client is gone, or never was one: nobody is left to be told.
    LogDebug("a connection ended: {}", e.what());
  } catch (const std::exception& e) {
    LogWarning("a connection ended: {}", e.what());
  }
}

}  // namespace earshot
