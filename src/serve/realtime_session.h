// What a client of OpenAI's realtime protocol has set: the format of its audio and who ends a turn. Both spellings of
// it: the beta's flat one (input_audio_format, turn_detection, ...) and that of the general release
// (session.audio.input.format, ...).
//
//   RealtimeSession session;
//   session.Update(event["session"], info);             // throws RealtimeFault; then nothing has changed
//   Json json = session.ToJson(RealtimeDialect::kGeneral, id, info);
//
// A plain value.
#pragma once

#include <string>

#include "src/base/error.h"
#include "src/serve/audio_bytes.h"
#include "src/serve/json.h"
#include "src/stream/recognition_service.h"

namespace earshot {

enum class RealtimeDialect { kGeneral, kBeta };

// A mistake of the client, as an error event tells it.
class RealtimeFault : public Error {
 public:
  RealtimeFault(const std::string& message, std::string code, std::string param = "")
      : Error(message), code(std::move(code)), param(std::move(param)) {}
  std::string code, param;
};

struct RealtimeSession {
  AudioEncoding encoding = AudioEncoding::kS16;
  // Hz. PCM is 24000 by the protocol; here any rate is taken that is named.
  double sample_rate = 24000;
  // The server ends a turn: after this long without speech. false: the client commits.
  bool server_vad = true;
  int silence_ms = 500;
  // Told to the client as it set them; the model's own gate decides.
  double threshold = 0.5;
  int prefix_padding_ms = 300;
  std::string language, prompt;

  // session: of session.update or transcription_session.update; keys that are missing keep their value.
  void Update(const Json& session, const ServiceInfo& info);
  Json ToJson(RealtimeDialect dialect, const std::string& id, const ServiceInfo& info) const;
};

}  // namespace earshot
