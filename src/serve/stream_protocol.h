// What every protocol of live recognition is: messages in, updates in, messages out. A protocol knows no socket, so
// that each can be tested as a function of what it is told.
//
//   class Echo : public StreamProtocol {
//    public:
//     explicit Echo(StreamHost& host) : host_(host) {}
//     void OnBinary(std::string_view bytes) override {
//       if (!host_.stream() && !host_.OpenStream({})) return host_.Close(CloseCode::kTryAgainLater, "no stream is
//       free"); host_.stream()->AcceptWaveform(decoder_.Decode(bytes));
//     }
//     void OnUpdate(StreamUpdate update) override { host_.Send(JoinSegments(update.finals)); }
//     ...
//
// The connection calls one function of its protocol at a time. No function waits. What a function throws ends the
// connection; for mistakes of the client a protocol has answers of its own.
#pragma once

#include <string>
#include <string_view>

#include "src/stream/recognition_service.h"

namespace earshot {

// RFC 6455, section 7.4.1, and the registry that it begins.
enum class CloseCode {
  kNormal = 1000,
  kGoingAway = 1001,
  kPolicy = 1008,
  kTooBig = 1009,
  kInternal = 1011,
  kTryAgainLater = 1013,
};

// The connection, as its protocol sees it.
class StreamHost {
 public:
  virtual ~StreamHost() = default;
  virtual const ServiceInfo& info() const = 0;
  // A text message of a WebSocket; bytes where there are no messages.
  virtual void Send(std::string message) = 0;
  // Ends the connection once all that was sent is out. The protocol is told nothing more.
  virtual void Close(CloseCode code, const std::string& reason) = 0;
  // Begins a stream in the place of the one before, of which nothing more is heard. false: none is free. Throws Error
  // for options out of range.
  virtual bool OpenStream(const StreamOptions& options) = 0;
  virtual void CloseStream() = 0;
  // nullptr: none is open.
  virtual LiveStream* stream() = 0;
};

class StreamProtocol {
 public:
  virtual ~StreamProtocol() = default;
  // The connection is open.
  virtual void OnOpen() {}
  virtual void OnText(std::string_view text) = 0;
  virtual void OnBinary(std::string_view bytes) = 0;
  virtual void OnUpdate(StreamUpdate update) = 0;
  // The server ends: say what there is still to say, then Close with kGoingAway.
  virtual void OnDrain() = 0;
};

}  // namespace earshot
