// The Wyoming protocol, by which Home Assistant speaks to recognisers, over TCP.
//
//   client: describe                    answered by info: one program, one model, its language
//           ping                        answered by pong
//           transcribe {name, language} may be left out
//           audio-start {rate, width, channels}, audio-chunk ..., audio-stop
//   server: transcript-start, transcript-chunk {text} while it is spoken, then transcript {text}, transcript-stop
//           error {text, code}          for what cannot be done
//
// Samples of 2 bytes, one or two channels, any rate from 4 to 192 kHz. Chunks only ever add words that stay; together
// they are the transcript. A connection may carry one utterance after the other. There are no tokens in this protocol.
#pragma once

#include <string>
#include <string_view>

#include "src/serve/audio_bytes.h"
#include "src/serve/stream_protocol.h"
#include "src/serve/wyoming_events.h"

namespace earshot {

class WyomingProtocol : public StreamProtocol {
 public:
  explicit WyomingProtocol(StreamHost& host) : host_(host) {}

  void OnText(std::string_view text) override { OnBinary(text); }
  // bytes: of the connection, as they come.
  void OnBinary(std::string_view bytes) override;
  void OnUpdate(StreamUpdate update) override;
  void OnDrain() override;

 private:
  void Handle(const WyomingEvent& event);
  void Describe();
  void Start(const Json& format);
  void AcceptChunk(const WyomingEvent& event);
  void Stop();
  void SendChunk(const std::string& stable_text);
  void SendTranscript();
  void Send(const std::string& type, Json data);

  StreamHost& host_;
  WyomingReader reader_;
  AudioDecoder decoder_;
  double sample_rate_ = 0;
  bool listening_ = false;  // between audio-start and audio-stop
  bool waiting_ = false;    // for the last words
  bool draining_ = false;
  std::string text_, sent_;
};

}  // namespace earshot
