// The WebSocket protocol of Earshot's own page, /v1/stream: all that a stream tells, as it is.
//
//   client: {"type": "config", "sample_rate": 48000, "latency_ms": 320, "format": "f32le"}     may be left out
//   server: {"type": "ready", "model", "sample_rate", "encoder_frame_s", "latency_ms"}
//   client: binary messages, samples of one channel in that format ("s16le" at the model's rate without a config)
//   server: {"type": "update", "finals": [{start, end, text, words}], "words": [{word, start, end, confidence,
//   stable}],
//            "gate": [...], "gate_start", "speech", "received", "recognized", "committed", "finished"}
//   client: {"type": "commit"}    all that was sent becomes final; the update that says so has "committed": true
//           {"type": "clear"}     what is not final is forgotten; times begin at 0 again
//           {"type": "end"}       answered by the update with "finished": true, after which the server closes
//   server: {"type": "error", "message"}
//
// "ready" comes once the stream is open: after the config, or after the first binary message. A message that is wrong
// is answered by an error and otherwise has no effect. Times are seconds.
#pragma once

#include <string_view>

#include "src/serve/audio_bytes.h"
#include "src/serve/json.h"
#include "src/serve/stream_protocol.h"

namespace earshot {

class PageProtocol : public StreamProtocol {
 public:
  explicit PageProtocol(StreamHost& host) : host_(host) {}

  void OnText(std::string_view text) override;
  void OnBinary(std::string_view bytes) override;
  void OnUpdate(StreamUpdate update) override;
  void OnDrain() override;

 private:
  void Configure(const Json& message);
  bool Open();  // with the options of one that sends no config
  bool Open(const StreamOptions& options);
  void Finish();
  void SendError(const std::string& message);

  StreamHost& host_;
  AudioDecoder decoder_;
  StreamOptions options_;
  bool ending_ = false, draining_ = false;
};

}  // namespace earshot
