#include "src/serve/transcription_handler.h"

#include <sys/socket.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "src/serve/json.h"
#include "src/serve/openai_transcriptions.h"
#include "src/serve/routes.h"
#include "src/serve/update_channel.h"

namespace earshot {
namespace {

using Clock = std::chrono::steady_clock;

// The form round the file: its other fields and the boundaries.
constexpr int64_t kFormBytes = 64 * 1024;
// A comment this often keeps a stream of events alive while nothing is recognised, and finds out who is gone.
constexpr std::chrono::seconds kHeartbeat{15};

// Notices that the client closes its half of the connection, or all of it, without taking bytes from it.
class PeerWatch : public std::enable_shared_from_this<PeerWatch> {
 public:
  PeerWatch(asio::ip::tcp::socket& socket, std::function<void(bool reset)> gone)
      : socket_(socket), gone_(std::move(gone)) {}

  void Start() {
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](beast::error_code error) {
      if (error || !self->gone_) return;
      char byte;
      const ssize_t n = recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      // More than 0: a next request is there already, and waits.
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) self->gone_(n < 0);
    });
  }
  // Then gone is called no more, and the socket is not touched.
  void Stop() {
    beast::error_code ignored;
    gone_ = nullptr;
    socket_.cancel(ignored);
  }

 private:
  asio::ip::tcp::socket& socket_;
  std::function<void(bool)> gone_;
};

// A recording that is being transcribed: its updates, waited for.
class RecordingTask {
 public:
  RecordingTask(HttpConnection& http, ServerContext& context)
      : timer_(http.stream().get_executor()),
        channel_(context.work_gate.To(http.stream().get_executor()),
                 [this](RecordingUpdate update) {
                   updates_.push_back(std::move(update));
                   timer_.cancel();
                 }),
        watch_(std::make_shared<PeerWatch>(http.stream().tcp().socket(), [this, &context](bool reset) {
          const double patience_s = reset ? 0 : context.options.idle_timeout_s;
          give_up_ =
              Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(patience_s));
          timer_.cancel();
        })) {}
  ~RecordingTask() {
    watch_->Stop();
    job_.reset();
    channel_.Close();
  }

  // false: too many wait already.
  bool Start(ServerContext& context, const std::string& path) {
    job_ = context.service.Transcribe(path, channel_.Listener());
    if (job_) watch_->Start();
    return job_ != nullptr;
  }

  // The next update; nothing when none came in this time, or when the client is gone (see is_abandoned()).
  asio::awaitable<std::optional<RecordingUpdate>> Next(Clock::duration time) {
    const Clock::time_point until = Clock::now() + time;
    while (updates_.empty() && !is_abandoned() && Clock::now() < until) {
      timer_.expires_at(give_up_ ? std::min(until, *give_up_) : until);
      beast::error_code error;
      co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    if (updates_.empty()) co_return std::nullopt;
    std::optional<RecordingUpdate> update = std::move(updates_.front());
    updates_.pop_front();
    co_return update;
  }

  // The client closed its half some time ago, or broke the connection.
  bool is_abandoned() const { return give_up_ && Clock::now() >= *give_up_; }

 private:
  asio::steady_timer timer_;
  std::deque<RecordingUpdate> updates_;
  std::optional<Clock::time_point> give_up_;
  UpdateChannel<RecordingUpdate> channel_;
  std::shared_ptr<PeerWatch> watch_;
  std::unique_ptr<RecordingJob> job_;
};

void Add(Transcript& transcript, const RecordingUpdate& update) {
  AppendText(transcript.text, JoinSegments(update.segments));
  transcript.segments.insert(transcript.segments.end(), update.segments.begin(), update.segments.end());
  transcript.duration_s = std::max(update.done_s, update.duration_s);
}

HttpResponse FailedResponse(const std::string& error) {
  return ErrorResponse(400, "the file cannot be transcribed: " + error, "invalid_audio", "file");
}

asio::awaitable<HttpResponse> AnswerWhole(RecordingTask& task, const TranscriptionRequest& request,
                                          const ServiceInfo& info) {
  Transcript transcript;
  while (!task.is_abandoned()) {
    const std::optional<RecordingUpdate> update = co_await task.Next(kHeartbeat);
    if (!update) continue;
    if (!update->error.empty()) co_return FailedResponse(update->error);
    Add(transcript, *update);
    if (update->finished) co_return FormatTranscription(request, transcript, info);
  }
  throw boost::system::system_error(asio::error::connection_aborted);
}

// Server-sent events. A recording that fails before its first words is answered as one whose answer is whole.
asio::awaitable<std::optional<HttpResponse>> AnswerInEvents(RecordingTask& task, HttpConnection& http,
                                                            ServerContext& context) {
  Transcript transcript;
  bool begun = false;
  while (!task.is_abandoned()) {
    const std::optional<RecordingUpdate> update = co_await task.Next(kHeartbeat);
    if (update && !update->error.empty() && !begun) co_return FailedResponse(update->error);
    if (!std::exchange(begun, true)) {
      HttpResponse header{.content_type = "text/event-stream"};
      header.headers.emplace_back("Cache-Control", "no-store");
      AddCommonHeaders(http.request(), context.access, header);
      co_await http.BeginPieces(std::move(header));
    }
    if (!update) {
      co_await http.WritePiece(":\n\n");
      continue;
    }
    if (!update->error.empty()) {
      co_await http.WritePiece(ErrorEvent(update->error));
    } else {
      const size_t known = transcript.text.size();
      Add(transcript, *update);
      if (transcript.text.size() > known) co_await http.WritePiece(DeltaEvent(transcript.text.substr(known)));
      if (!update->finished) continue;
      co_await http.WritePiece(DoneEvent(transcript));
    }
    co_await http.EndPieces();
    context.metrics.CountResponse(200);
    co_return std::nullopt;
  }
  throw boost::system::system_error(asio::error::connection_aborted);
}

asio::awaitable<std::optional<HttpResponse>> Transcribe(HttpConnection& http, ServerContext& context) {
  const ServiceInfo& info = context.service.info();
  const UploadLimits limits{.folder = context.options.upload_dir, .max_bytes = context.options.max_upload_bytes};
  const int64_t most = limits.max_bytes + kFormBytes;
  if (http.body_bytes() > most) throw HttpFault(413, fmt::format("more than {} bytes", most), "file_too_large", "file");
  TranscriptionForm form(http.request().Header("content-type"), info, limits);
  int64_t received = 0;
  const std::function<void(std::string_view)> receive = [&](std::string_view bytes) {
    received += static_cast<int64_t>(bytes.size());
    if (received > most) throw HttpFault(413, fmt::format("more than {} bytes", most), "file_too_large", "file");
    form.Append(bytes);
  };
  const bool whole = co_await http.ReadBody(receive);
  if (!whole) co_return http.error_response();
  const TranscriptionRequest request = form.Finish();
  RecordingTask task(http, context);
  if (!task.Start(context, request.file->path()))
    throw HttpFault(429, "too many recordings wait already; try again later", "rate_limit_exceeded");
  http.stream().tcp().expires_never();
  if (request.stream) co_return co_await AnswerInEvents(task, http, context);
  co_return co_await AnswerWhole(task, request, info);
}

}  // namespace

asio::awaitable<void> HandleTranscription(HttpConnection& http, ServerContext& context) {
  const GaugeHold work(context.metrics.work);
  std::optional<HttpResponse> response;
  try {
    response = co_await Transcribe(http, context);
  } catch (const HttpFault& fault) {
    response = fault.response;
  }
  if (context.metrics.draining) http.DoNotKeepAlive();
  if (!response) co_return;
  AddCommonHeaders(http.request(), context.access, *response);
  context.metrics.CountResponse(response->status);
  co_await http.Write(std::move(*response));
}

}  // namespace earshot
