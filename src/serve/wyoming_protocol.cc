#include "src/serve/wyoming_protocol.h"

#include <optional>
#include <utility>

#include "src/base/error.h"

namespace earshot {

void WyomingProtocol::OnBinary(std::string_view bytes) {
  if (draining_) return;
  try {
    reader_.Append(bytes);
    while (std::optional<WyomingEvent> event = reader_.Next()) Handle(*event);
  } catch (const Error& e) {
    Send("error", {{"text", e.what()}, {"code", "invalid-event"}});
    host_.Close(CloseCode::kPolicy, "a wrong event");
  }
}

void WyomingProtocol::Handle(const WyomingEvent& event) {
  if (event.type == "describe") return Describe();
  if (event.type == "ping") return Send("pong", {{"text", event.data.value("text", Json())}});
  if (event.type == "transcribe") {
    const std::string name = TextOr(event.data, "name", "");
    if (!name.empty() && name != host_.info().model)
      Send("error",
           {{"text", fmt::format("the model '{}' is not served here; expected '{}'", name, host_.info().model)},
            {"code", "model-not-found"}});
    return;
  }
  if (event.type == "audio-start") return Start(event.data);
  if (event.type == "audio-chunk") return AcceptChunk(event);
  if (event.type == "audio-stop") return Stop();
  // What a later version of the protocol adds is passed over, as its clients expect.
}

void WyomingProtocol::Describe() {
  const ServiceInfo& info = host_.info();
  const Json attribution = {{"name", "Earshot"}, {"url", ""}};
  Json languages = Json::array();
  if (!info.language.empty()) languages.push_back(info.language);
  const Json model = {{"name", info.model}, {"description", info.model}, {"attribution", attribution},
                      {"installed", true},  {"version", nullptr},        {"languages", languages}};
  const Json program = {{"name", "earshot"},
                        {"description", "Earshot speech recognition"},
                        {"attribution", attribution},
                        {"installed", true},
                        {"version", nullptr},
                        {"models", Json::array({model})},
                        {"supports_transcript_streaming", true}};
  Json data = {{"asr", Json::array({program})}};
  for (const char* other : {"tts", "handle", "intent", "wake", "mic", "snd"}) data[other] = Json::array();
  Send("info", std::move(data));
}

void WyomingProtocol::Start(const Json& format) {
  if (waiting_) Throw("audio-start before the transcript of the audio before");
  const double rate = NumberOr(format, "rate", 16000), width = NumberOr(format, "width", 2);
  const double channels = NumberOr(format, "channels", 1);
  if (!(rate >= 4000 && rate <= 192000)) Throw("rate: {} Hz, expected 4000 to 192000", rate);
  if (width != 2) Throw("width: {} bytes, expected 2", width);
  if (channels != 1 && channels != 2) Throw("channels: {}, expected 1 or 2", channels);
  decoder_ = AudioDecoder({.encoding = AudioEncoding::kS16, .channels = static_cast<int>(channels)});
  sample_rate_ = rate;
  text_.clear();
  sent_.clear();
  if (!host_.OpenStream({.sample_rate = rate})) {
    Send("error", {{"text", "all streams are taken; try again later"}, {"code", "busy"}});
    return host_.Close(CloseCode::kTryAgainLater, "no stream is free");
  }
  listening_ = true;
  Send("transcript-start", host_.info().language.empty() ? Json::object() : Json{{"language", host_.info().language}});
}

void WyomingProtocol::AcceptChunk(const WyomingEvent& event) {
  if (waiting_) return;  // late ones of an utterance that was stopped
  // Some clients leave audio-start out; each chunk names its format too.
  if (!listening_) Start(event.data);
  if (!listening_) return;
  const double rate = NumberOr(event.data, "rate", sample_rate_);
  const double channels = NumberOr(event.data, "channels", decoder_.format().channels);
  if (rate != sample_rate_ || channels != decoder_.format().channels)
    Throw("audio-chunk of {} Hz and {} channels in audio of {} Hz and {}", rate, channels, sample_rate_,
          decoder_.format().channels);
  if (NumberOr(event.data, "width", 2) != 2) Throw("audio-chunk whose samples are not of 2 bytes");
  host_.stream()->AcceptWaveform(decoder_.Decode(event.payload));
}

void WyomingProtocol::Stop() {
  if (waiting_) return;
  if (!listening_) {  // nothing was said, which is an answer too
    Send("transcript-start", Json::object());
    return SendTranscript();
  }
  listening_ = false;
  waiting_ = true;
  host_.stream()->InputFinished();
}

void WyomingProtocol::OnUpdate(StreamUpdate update) {
  if (!update.error.empty()) {
    Send("error", {{"text", update.error}, {"code", "failed"}});
    return host_.Close(CloseCode::kInternal, "the stream failed");
  }
  AppendText(text_, JoinSegments(update.finals));
  std::string stable = text_;
  AppendText(stable, JoinWords(update.words, 0, update.stable_words));
  SendChunk(stable);
  if (!update.finished) return;
  SendTranscript();
  host_.CloseStream();
  waiting_ = false;
  if (draining_) host_.Close(CloseCode::kGoingAway, "the server ends");
}

void WyomingProtocol::SendChunk(const std::string& stable_text) {
  if (stable_text.size() <= sent_.size() || !stable_text.starts_with(sent_)) return;
  Send("transcript-chunk", {{"text", stable_text.substr(sent_.size())}});
  sent_ = stable_text;
}

void WyomingProtocol::SendTranscript() {
  Json data = {{"text", text_}};
  if (!host_.info().language.empty()) data["language"] = host_.info().language;
  Send("transcript", std::move(data));
  Send("transcript-stop", Json::object());
  text_.clear();
  sent_.clear();
}

void WyomingProtocol::OnDrain() {
  draining_ = true;
  if (!host_.stream()) return host_.Close(CloseCode::kGoingAway, "the server ends");
  if (!waiting_) Stop();
}

void WyomingProtocol::Send(const std::string& type, Json data) {
  host_.Send(FormatWyomingEvent({.type = type, .data = std::move(data)}));
}

}  // namespace earshot
