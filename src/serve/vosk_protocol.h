// The WebSocket protocol of vosk-server, at / and /vosk: one answer for every message of audio.
//
//   client: {"config": {"sample_rate": 16000, "words": 1}}     may be left out: the model's rate, with words;
//           with "max_alternatives": 1 or more, a result is {"alternatives": [{"confidence", "result", "text"}]}, of
//           which there is one
//   client: binary messages, s16le of one channel
//   server: {"partial": "what is not yet final"}, or at an endpoint
//           {"result": [{"conf", "start", "end", "word"}], "text": "..."}
//   client: {"reset": 1}
//   server: the result of what was sent so far; what follows begins anew
//   client: {"eof": 1}
//   server: the last result, and closes
//
// Vosk's clients send a message and wait for its answer. An answer comes at once while recognition keeps up, and
// otherwise waits until it is at most kMaxBehind behind, so that such a client sees its words as they are found however
// fast it reads its file. Results that found no message to answer come together in the last.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "src/serve/audio_bytes.h"
#include "src/serve/json.h"
#include "src/serve/stream_protocol.h"

namespace earshot {

class VoskProtocol : public StreamProtocol {
 public:
  explicit VoskProtocol(StreamHost& host) : host_(host) {}

  void OnText(std::string_view text) override;
  void OnBinary(std::string_view bytes) override;
  void OnUpdate(StreamUpdate update) override;
  void OnDrain() override;

 private:
  bool Open();
  void Configure(const Json& config);
  void Reset();
  void Finish();
  // The result of all that was not yet told, behind an answer for each message that waits for one.
  void SendAll();
  // Answers as many messages as are due.
  void Answer();
  bool KeepsUp() const;
  void SendResult(const std::vector<Word>& words, const std::string& text);

  StreamHost& host_;
  AudioDecoder decoder_;
  double sample_rate_ = 0;  // 0: the model's
  bool with_words_ = true, as_alternatives_ = false;
  bool ending_ = false, draining_ = false;
  double sent_s_ = 0, recognized_s_ = 0;
  size_t unanswered_ = 0;
  std::deque<Segment> results_;  // not yet sent
  std::string partial_;
};

}  // namespace earshot
