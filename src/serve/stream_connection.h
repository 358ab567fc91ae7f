// What the connections of all live protocols have in common, whatever carries them: their stream, what waits to be
// sent, and when they have waited too long.
//
// A transport derives from it: it reads and calls Tell, writes what WriteFront is asked for and calls OnWritten, and
// reads on only while MayRead(). All of it runs on one thread at a time (a strand); Drain alone comes from anywhere.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "src/serve/server_context.h"
#include "src/serve/stream_protocol.h"
#include "src/serve/update_channel.h"
#include "src/serve/work_gate.h"

namespace earshot {

class StreamConnection : public StreamHost,
                         public DrainingConnection,
                         public std::enable_shared_from_this<StreamConnection> {
 public:
  using Clock = std::chrono::steady_clock;

  // slot: its place among the streams; an empty one is taken with the stream and given back with it. post: to the
  // connection's thread.
  StreamConnection(std::shared_ptr<ServerContext> context, GaugeHold slot, WorkGate::Post post);
  ~StreamConnection() override;

  void Drain() override;

  const ServiceInfo& info() const override { return context_->service.info(); }
  void Send(std::string message) override;
  void Close(CloseCode code, const std::string& reason) override;
  bool OpenStream(const StreamOptions& options) override;
  void CloseStream() override;
  LiveStream* stream() override { return stream_.get(); }

  bool ended() const { return ended_; }
  // When OnDeadline is due, unless something happens before.
  Clock::time_point Deadline() const;
  void OnDeadline();

 protected:
  // Writes outbox().front(), then calls OnWritten.
  virtual void WriteFront() = 0;
  // All is written: says goodbye and ends.
  virtual void SayGoodbye(CloseCode code, const std::string& reason) = 0;
  // Closes the socket at once.
  virtual void Abort() = 0;
  // MayRead() may have changed.
  virtual void OnProgress() = 0;

  void Begin(std::unique_ptr<StreamProtocol> protocol);
  // Calls a function of the protocol, unless the connection is closing.
  void Tell(const std::function<void(StreamProtocol&)>& what);
  void OnWritten();
  // Ends without a goodbye: the other side is gone, or does not listen.
  void Drop();
  // What comes behind a Close does not put off the end.
  void OnActivity() {
    if (!closing()) last_activity_ = Clock::now();
  }
  // The transport is done: nothing is called any more.
  void End();

  // Whether there is room for more audio.
  bool MayRead() const;
  bool closing() const { return close_code_.has_value(); }
  const std::string& front() const { return outbox_.front(); }

  const std::shared_ptr<ServerContext> context_;

 private:
  const WorkGate::Post post_;
  const bool keeps_slot_;
  GaugeHold slot_, work_;
  std::unique_ptr<StreamProtocol> protocol_;
  std::unique_ptr<UpdateChannel<StreamUpdate>> channel_;
  std::unique_ptr<LiveStream> stream_;
  std::deque<std::string> outbox_;
  size_t outbox_bytes_ = 0;
  bool writing_ = false, said_goodbye_ = false, ended_ = false;
  std::optional<CloseCode> close_code_;
  std::string close_reason_;
  Clock::time_point last_activity_ = Clock::now();
};

}  // namespace earshot
