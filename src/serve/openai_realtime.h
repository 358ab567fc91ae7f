// OpenAI's realtime protocol for transcription, /v1/realtime?intent=transcription: JSON events over a WebSocket.
//
//   server: session.created                              (the beta: transcription_session.created)
//   client: session.update                               answered by session.updated
//           input_audio_buffer.append {audio: base64}    not answered
//   server: input_audio_buffer.speech_started            where the server detects turns
//           conversation.item.input_audio_transcription.delta
//           input_audio_buffer.speech_stopped
//           input_audio_buffer.committed                 also the answer to the client's input_audio_buffer.commit
//           conversation.item.added, .done               (the beta: conversation.item.created)
//           conversation.item.input_audio_transcription.completed {transcript}
//
// An item is what was said between two commits. Deltas come while it is spoken: they only ever add words that stay, and
// together they are a beginning of the transcript. Errors of the client are answered by an `error` event that names
// the event_id, and otherwise have no effect.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "src/serve/audio_bytes.h"
#include "src/serve/json.h"
#include "src/serve/realtime_session.h"
#include "src/serve/stream_protocol.h"

namespace earshot {

class OpenAiRealtime : public StreamProtocol {
 public:
  OpenAiRealtime(StreamHost& host, RealtimeDialect dialect);

  void OnOpen() override;
  void OnText(std::string_view text) override;
  void OnBinary(std::string_view bytes) override;
  void OnUpdate(StreamUpdate update) override;
  void OnDrain() override;

 private:
  struct Item {
    std::string id;
    std::string text;    // of its final segments
    std::string sent;    // in deltas
    double audio_s = 0;  // that was appended
    bool committed = false;
    bool dropped = false;  // cleared while an item before it waited: what is recognised of it is not told
    bool speaking = false;
    double last_speech_s = 0;
  };

  void Handle(const Json& event);
  void UpdateSession(const Json& event, const std::string& answer);
  void Append(const Json& event);
  void Clear();
  void CommitByClient();
  // Closes the last item: tells of it and begins the next.
  void Commit();
  void CompleteFirst();
  void SendDelta(Item& item, const std::string& stable_text);
  void DetectTurn(const StreamUpdate& update);
  void Send(const char* type, Json fields);
  void SendError(const std::string& message, const std::string& code, const std::string& param);

  StreamHost& host_;
  const RealtimeDialect dialect_;
  RealtimeSession session_;
  std::string session_id_, previous_item_id_, client_event_id_;
  AudioDecoder decoder_;
  // The first gets the words that are recognised now; the last, the audio that is appended. Never empty.
  std::deque<Item> items_;
  double stream_start_s_ = 0, appended_s_ = 0;  // in the session
  bool draining_ = false;
};

}  // namespace earshot
