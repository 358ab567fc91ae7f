#include "src/serve/page_protocol.h"

#include <cmath>
#include <string>
#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

Json UpdateJson(const StreamUpdate& update) {
  Json finals = Json::array();
  for (const Segment& segment : update.finals) {
    finals.push_back({{"start", Milliseconds(segment.start_s)},
                      {"end", Milliseconds(segment.end_s)},
                      {"text", segment.text},
                      {"words", WordsJson(segment.words)}});
  }
  Json words = Json::array();
  for (size_t i = 0; i < update.words.size(); ++i) {
    Json word = WordJson(update.words[i]);
    word["stable"] = i < update.stable_words;
    words.push_back(std::move(word));
  }
  Json gate = Json::array();
  for (const float value : update.gate) gate.push_back(std::round(value * 1e3) / 1e3);
  return {{"type", "update"},
          {"finals", std::move(finals)},
          {"words", std::move(words)},
          {"gate", std::move(gate)},
          {"gate_start", Milliseconds(update.gate_start_s)},
          {"speech", update.speech},
          {"received", Milliseconds(update.received_s)},
          {"recognized", Milliseconds(update.recognized_s)},
          {"committed", update.committed},
          {"finished", update.finished}};
}

AudioEncoding ParseEncoding(const std::string& name) {
  if (name == "s16le") return AudioEncoding::kS16;
  if (name == "f32le") return AudioEncoding::kF32;
  Throw("format '{}' is not known; expected s16le or f32le", name);
}

}  // namespace

void PageProtocol::OnText(std::string_view text) {
  if (ending_) return;
  try {
    const Json message = ParseJsonObject(text);
    const std::string type = TextOr(message, "type", "");
    if (type == "config") return Configure(message);
    if (type == "end") return Finish();
    if (type != "commit" && type != "clear")
      Throw("message type '{}' is not known; expected config, commit, clear or end", type);
    if (!host_.stream() && !Open()) return;
    if (type == "commit") return host_.stream()->Commit();
    // A new stream instead of LiveStream::Clear: no update of before, still on its way, can come after.
    decoder_.Reset();
    if (!host_.OpenStream(options_)) host_.Close(CloseCode::kTryAgainLater, "no stream is free");
  } catch (const Error& e) {
    SendError(e.what());
  }
}

void PageProtocol::Configure(const Json& message) {
  if (host_.stream()) Throw("the config comes before the audio, and once");
  StreamOptions options;
  options.sample_rate = NumberOr(message, "sample_rate", host_.info().sample_rate);
  if (!(options.sample_rate >= 4000 && options.sample_rate <= 192000))
    Throw("sample_rate: {} Hz, expected 4000 to 192000", options.sample_rate);
  const double latency_ms = NumberOr(message, "latency_ms", 0);
  if (!(latency_ms >= 0 && latency_ms <= 60000)) Throw("latency_ms: {}, expected 0 to 60000", latency_ms);
  options.latency_ms = static_cast<int>(latency_ms);
  const AudioDecoder decoder({.encoding = ParseEncoding(TextOr(message, "format", "s16le"))});
  Open(options);
  decoder_ = decoder;
}

bool PageProtocol::Open() { return Open({.sample_rate = static_cast<double>(host_.info().sample_rate)}); }

bool PageProtocol::Open(const StreamOptions& options) {
  const bool opened = host_.OpenStream(options);
  options_ = options;
  if (!opened) {
    SendError("all streams are taken; try again later");
    host_.Close(CloseCode::kTryAgainLater, "no stream is free");
    ending_ = true;
    return false;
  }
  const ServiceInfo& info = host_.info();
  host_.Send(ToText({{"type", "ready"},
                     {"model", info.model},
                     {"sample_rate", options_.sample_rate},
                     {"encoder_frame_s", info.encoder_frame_s},
                     {"latency_ms", options_.latency_ms > 0 ? options_.latency_ms : info.default_latency_ms}}));
  return true;
}

void PageProtocol::OnBinary(std::string_view bytes) {
  if (ending_) return;
  if (!host_.stream() && !Open()) return;
  host_.stream()->AcceptWaveform(decoder_.Decode(bytes));
}

void PageProtocol::OnUpdate(StreamUpdate update) {
  if (!update.error.empty()) {
    SendError(update.error);
    return host_.Close(CloseCode::kInternal, "the stream failed");
  }
  host_.Send(ToText(UpdateJson(update)));
  if (!update.finished) return;
  if (draining_) return host_.Close(CloseCode::kGoingAway, "the server ends");
  host_.Close(CloseCode::kNormal, "");
}

void PageProtocol::Finish() {
  if (!host_.stream() && !Open()) return;
  ending_ = true;
  host_.stream()->InputFinished();
}

void PageProtocol::OnDrain() {
  draining_ = true;
  if (!host_.stream()) return host_.Close(CloseCode::kGoingAway, "the server ends");
  if (!ending_) Finish();
}

void PageProtocol::SendError(const std::string& message) {
  host_.Send(ToText({{"type", "error"}, {"message", message}}));
}

}  // namespace earshot
