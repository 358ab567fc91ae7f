#include "src/serve/stream_connection.h"

#include <exception>
#include <utility>

#include "src/base/log.h"

namespace earshot {
namespace {

// For what was still to be sent, and for the client's goodbye.
constexpr std::chrono::seconds kCloseTime{5};

}  // namespace

StreamConnection::StreamConnection(std::shared_ptr<ServerContext> context, GaugeHold slot, WorkGate::Post post)
    : context_(std::move(context)),
      post_(std::move(post)),
      keeps_slot_(static_cast<bool>(slot)),
      slot_(std::move(slot)),
      work_(context_->metrics.work) {}

StreamConnection::~StreamConnection() { context_->connections.Remove(this); }

void StreamConnection::Begin(std::unique_ptr<StreamProtocol> protocol) {
  protocol_ = std::move(protocol);
  context_->connections.Add(shared_from_this());
  OnActivity();
  Tell([](StreamProtocol& p) { p.OnOpen(); });
  // It may have begun between the check of the request and here.
  if (context_->metrics.draining) Drain();
}

void StreamConnection::Drain() {
  post_([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self) self->Tell([](StreamProtocol& p) { p.OnDrain(); });
  });
}

void StreamConnection::Tell(const std::function<void(StreamProtocol&)>& what) {
  if (closing() || ended_ || !protocol_) return;
  try {
    what(*protocol_);
  } catch (const std::exception& e) {
    LogWarning("a connection ends: {}", e.what());
    Close(CloseCode::kInternal, "an error in the server");
  }
}

bool StreamConnection::OpenStream(const StreamOptions& options) {
  CloseStream();
  if (!slot_) slot_ = context_->TakeStreamSlot();
  if (!slot_) return false;
  channel_ = std::make_unique<UpdateChannel<StreamUpdate>>(post_, [this](StreamUpdate update) {
    const auto self = shared_from_this();
    OnActivity();  // the model's: a client that waits for it is not idle
    Tell([&](StreamProtocol& p) { p.OnUpdate(std::move(update)); });
    OnProgress();
  });
  stream_ = context_->service.OpenStream(options, channel_->Listener());
  if (stream_) return true;
  CloseStream();
  return false;
}

void StreamConnection::CloseStream() {
  // First the channel: what the stream says while it ends is not heard.
  channel_.reset();
  stream_.reset();
  if (!keeps_slot_) slot_.Release();
}

bool StreamConnection::MayRead() const {
  return !stream_ || closing() || stream_->queued_s() <= context_->options.max_queued_s;
}

void StreamConnection::Send(std::string message) {
  if (closing() || ended_) return;
  outbox_bytes_ += message.size();
  outbox_.push_back(std::move(message));
  if (outbox_bytes_ > static_cast<size_t>(context_->options.max_unsent_bytes) && outbox_.size() > 1) {
    ++context_->metrics.slow_readers;
    return Drop();
  }
  if (writing_) return;
  writing_ = true;
  WriteFront();
}

void StreamConnection::OnWritten() {
  if (ended_) return;
  OnActivity();
  outbox_bytes_ -= outbox_.front().size();
  outbox_.pop_front();
  writing_ = !outbox_.empty();
  if (writing_) return WriteFront();
  if (closing() && !std::exchange(said_goodbye_, true)) SayGoodbye(*close_code_, close_reason_);
}

void StreamConnection::Close(CloseCode code, const std::string& reason) {
  if (closing() || ended_) return;
  OnActivity();
  close_code_ = code;
  close_reason_ = reason;
  // Whoever waits for room or for time is to see it; and the stream is of no more use.
  post_([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->ended_) return;
    self->CloseStream();
    if (!self->writing_ && !std::exchange(self->said_goodbye_, true))
      self->SayGoodbye(*self->close_code_, self->close_reason_);
    self->OnProgress();
  });
}

void StreamConnection::Drop() {
  if (!closing()) close_code_ = CloseCode::kPolicy;
  said_goodbye_ = true;
  Abort();
}

void StreamConnection::End() {
  if (std::exchange(ended_, true)) return;
  CloseStream();
  context_->connections.Remove(this);
  OnProgress();
}

StreamConnection::Clock::time_point StreamConnection::Deadline() const {
  const auto idle =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(context_->options.idle_timeout_s));
  return last_activity_ + (closing() ? std::min<Clock::duration>(idle, kCloseTime) : idle);
}

void StreamConnection::OnDeadline() {
  if (closing()) return Drop();
  if (!MayRead()) return OnActivity();  // it is the model that is behind
  if (writing_) {
    ++context_->metrics.slow_readers;
    return Drop();
  }
  ++context_->metrics.idle_closes;
  Close(CloseCode::kGoingAway, "nothing came for too long");
}

}  // namespace earshot
