#include "src/serve/realtime_session.h"

#include <cmath>
#include <limits>

namespace earshot {
namespace {

[[noreturn]] void Refuse(const std::string& param, const std::string& message) {
  throw RealtimeFault(message, "invalid_value", param);
}

// "pcm16", as the beta says it.
void SetFlatFormat(RealtimeSession& session, const std::string& name) {
  session.sample_rate = 8000;
  if (name == "g711_ulaw") {
    session.encoding = AudioEncoding::kULaw;
  } else if (name == "g711_alaw") {
    session.encoding = AudioEncoding::kALaw;
  } else if (name == "pcm16") {
    session.encoding = AudioEncoding::kS16;
    session.sample_rate = 24000;
  } else {
    Refuse("session.input_audio_format",
           fmt::format("input_audio_format '{}' is not known; expected pcm16, g711_ulaw or g711_alaw", name));
  }
}

// {"type": "audio/pcm", "rate": 24000}
void SetFormat(RealtimeSession& session, const Json& format) {
  const std::string type = TextOr(format, "type", "audio/pcm");
  if (type == "audio/pcmu" || type == "audio/pcma") {
    SetFlatFormat(session, type == "audio/pcmu" ? "g711_ulaw" : "g711_alaw");
  } else if (type == "audio/pcm") {
    session.encoding = AudioEncoding::kS16;
    session.sample_rate = NumberOr(format, "rate", 24000);
  } else {
    Refuse("session.audio.input.format.type",
           fmt::format("format '{}' is not known; expected audio/pcm, audio/pcmu or audio/pcma", type));
  }
  if (!(session.sample_rate >= 4000 && session.sample_rate <= 192000))
    Refuse("session.audio.input.format.rate",
           fmt::format("rate {} Hz, expected 4000 to 192000; the protocol's own is 24000", session.sample_rate));
}

void SetTurnDetection(RealtimeSession& session, const Json& detection) {
  if (detection.is_null()) {
    session.server_vad = false;
    return;
  }
  if (!detection.is_object()) Refuse("session.turn_detection", "turn_detection is to be an object or null");
  const std::string type = TextOr(detection, "type", "server_vad");
  // There is one way here to find the end of a turn; "semantic" asks for a better one than silence, and gets it too.
  if (type != "server_vad" && type != "semantic_vad")
    Refuse("session.turn_detection.type",
           fmt::format("turn detection '{}' is not known; expected server_vad, semantic_vad or null", type));
  const double silence_ms = NumberOr(detection, "silence_duration_ms", session.silence_ms);
  if (!(silence_ms >= 0 && silence_ms <= 60000))
    Refuse("session.turn_detection.silence_duration_ms",
           fmt::format("silence_duration_ms {}, expected 0 to 60000", silence_ms));
  const double padding_ms = NumberOr(detection, "prefix_padding_ms", session.prefix_padding_ms);
  if (!(padding_ms >= 0 && padding_ms <= 60000))
    Refuse("session.turn_detection.prefix_padding_ms",
           fmt::format("prefix_padding_ms {}, expected 0 to 60000", padding_ms));
  session.server_vad = true;
  session.silence_ms = static_cast<int>(silence_ms);
  session.prefix_padding_ms = static_cast<int>(padding_ms);
  session.threshold = NumberOr(detection, "threshold", session.threshold);
}

void SetTranscription(RealtimeSession& session, const Json& transcription, const ServiceInfo& info) {
  const std::string model = TextOr(transcription, "model", info.model);
  if (model != info.model)
    throw RealtimeFault(fmt::format("the model '{}' is not served here; expected '{}'", model, info.model),
                        "model_not_found", "session.audio.input.transcription.model");
  session.language = TextOr(transcription, "language", session.language);
  session.prompt = TextOr(transcription, "prompt", session.prompt);
}

Json NullOr(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

void RealtimeSession::Update(const Json& session, const ServiceInfo& info) {
  RealtimeSession next = *this;
  const Json input = ObjectOr(ObjectOr(session, "audio"), "input");
  if (session.contains("input_audio_format")) SetFlatFormat(next, TextOr(session, "input_audio_format", "pcm16"));
  if (input.contains("format")) SetFormat(next, ObjectOr(input, "format"));
  if (session.contains("turn_detection")) SetTurnDetection(next, session["turn_detection"]);
  if (input.contains("turn_detection")) SetTurnDetection(next, input["turn_detection"]);
  SetTranscription(next, ObjectOr(session, "input_audio_transcription"), info);
  SetTranscription(next, ObjectOr(input, "transcription"), info);
  *this = next;
}

Json RealtimeSession::ToJson(RealtimeDialect dialect, const std::string& id, const ServiceInfo& info) const {
  Json detection;
  if (server_vad)
    detection = {{"type", "server_vad"},
                 {"threshold", threshold},
                 {"prefix_padding_ms", prefix_padding_ms},
                 {"silence_duration_ms", silence_ms}};
  const Json transcription = {
      {"model", info.model}, {"language", NullOr(language.empty() ? info.language : language)}, {"prompt", prompt}};
  const bool pcm = encoding == AudioEncoding::kS16;
  const bool ulaw = encoding == AudioEncoding::kULaw;
  if (dialect == RealtimeDialect::kBeta) {
    return {{"id", id},
            {"object", "realtime.transcription_session"},
            {"input_audio_format", pcm    ? "pcm16"
                                   : ulaw ? "g711_ulaw"
                                          : "g711_alaw"},
            {"input_audio_transcription", transcription},
            {"input_audio_noise_reduction", nullptr},
            {"turn_detection", detection},
            {"include", Json::array()}};
  }
  Json format = {{"type", pcm ? "audio/pcm" : ulaw ? "audio/pcmu" : "audio/pcma"}};
  if (pcm) format["rate"] = static_cast<int64_t>(std::lround(sample_rate));
  return {{"type", "transcription"},
          {"object", "realtime.transcription_session"},
          {"id", id},
          {"audio",
           {{"input",
             {{"format", format},
              {"transcription", transcription},
              {"noise_reduction", nullptr},
              {"turn_detection", detection}}}}},
          {"include", nullptr}};
}

}  // namespace earshot
