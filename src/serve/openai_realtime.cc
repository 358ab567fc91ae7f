#include "src/serve/openai_realtime.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/serve/codes.h"

namespace earshot {
namespace {

constexpr const char* kInvalid = "invalid_request_error";

int64_t ToMs(double seconds) { return std::llround(seconds * 1000); }
Json IdOrNull(const std::string& id) { return id.empty() ? Json() : Json(id); }

}  // namespace

OpenAiRealtime::OpenAiRealtime(StreamHost& host, RealtimeDialect dialect)
    : host_(host), dialect_(dialect), session_id_(NewId("sess_")) {
  items_.push_back({.id = NewId("item_")});
}

void OpenAiRealtime::OnOpen() {
  Send(dialect_ == RealtimeDialect::kBeta ? "transcription_session.created" : "session.created",
       {{"session", session_.ToJson(dialect_, session_id_, host_.info())}});
}

void OpenAiRealtime::OnText(std::string_view text) {
  if (draining_) return;
  client_event_id_.clear();
  try {
    const Json event = ParseJsonObject(text);
    client_event_id_ = TextOr(event, "event_id", "");
    Handle(event);
  } catch (const RealtimeFault& fault) {
    SendError(fault.what(), fault.code, fault.param);
  } catch (const Error& e) {
    SendError(e.what(), "invalid_event", "");
  }
}

void OpenAiRealtime::OnBinary(std::string_view bytes) {
  client_event_id_.clear();
  SendError("a binary message; this protocol's audio is base64 in input_audio_buffer.append", "invalid_event", "");
}

void OpenAiRealtime::Handle(const Json& event) {
  const std::string type = TextOr(event, "type", "");
  if (type == "input_audio_buffer.append") return Append(event);
  if (type == "input_audio_buffer.commit") return CommitByClient();
  if (type == "input_audio_buffer.clear") return Clear();
  if (type == "session.update") return UpdateSession(event, "session.updated");
  if (type == "transcription_session.update") return UpdateSession(event, "transcription_session.updated");
  throw RealtimeFault(
      fmt::format("the event type '{}' is not known in a transcription session; expected session.update or "
                  "input_audio_buffer.append, .commit or .clear",
                  type),
      "invalid_value", "type");
}

void OpenAiRealtime::UpdateSession(const Json& event, const std::string& answer) {
  RealtimeSession next = session_;
  next.Update(ObjectOr(event, "session"), host_.info());
  if (next.encoding != session_.encoding || next.sample_rate != session_.sample_rate) {
    if (items_.size() > 1 || items_.back().audio_s > 0)
      throw RealtimeFault("the format cannot change while there is audio in the buffer; commit or clear it first",
                          "invalid_state", "session.audio.input.format");
    host_.CloseStream();
    stream_start_s_ = appended_s_;
    decoder_ = AudioDecoder({.encoding = next.encoding});
  }
  session_ = next;
  Send(answer.c_str(), {{"session", session_.ToJson(answer == "session.updated" ? dialect_ : RealtimeDialect::kBeta,
                                                    session_id_, host_.info())}});
}

void OpenAiRealtime::Append(const Json& event) {
  if (!event.contains("audio")) throw RealtimeFault("'audio' is missing", "missing_required_parameter", "audio");
  const std::optional<std::string> bytes = DecodeBase64(TextOr(event, "audio", ""));
  if (!bytes) throw RealtimeFault("'audio' is not base64", "invalid_value", "audio");
  const std::vector<float> samples = decoder_.Decode(*bytes);
  if (samples.empty()) return;
  if (!host_.stream() && !host_.OpenStream({.sample_rate = session_.sample_rate})) {
    SendError("all streams are taken; try again later", "rate_limit_exceeded", "");
    return host_.Close(CloseCode::kTryAgainLater, "no stream is free");
  }
  const double duration_s = static_cast<double>(samples.size()) / session_.sample_rate;
  appended_s_ += duration_s;
  items_.back().audio_s += duration_s;
  host_.stream()->AcceptWaveform(samples);
}

void OpenAiRealtime::Clear() {
  decoder_.Reset();
  Item next = {.id = NewId("item_")};
  if (items_.size() == 1) {
    // A new stream instead of LiveStream::Clear: no update of before, still on its way, can come after.
    host_.CloseStream();
    stream_start_s_ = appended_s_;
    items_.back() = std::move(next);
  } else if (items_.back().audio_s > 0) {
    // Items before it wait in the same stream for their last words.
    items_.back().committed = items_.back().dropped = true;
    items_.push_back(std::move(next));
    host_.stream()->Commit();
  }
  Send("input_audio_buffer.cleared", Json::object());
}

void OpenAiRealtime::CommitByClient() {
  if (items_.back().audio_s == 0)
    throw RealtimeFault("the buffer is empty: nothing was appended since the last commit",
                        "input_audio_buffer_commit_empty");
  Commit();
  host_.stream()->Commit();
}

void OpenAiRealtime::Commit() {
  Item& item = items_.back();
  item.committed = true;
  if (item.speaking)
    Send("input_audio_buffer.speech_stopped", {{"audio_end_ms", ToMs(appended_s_)}, {"item_id", item.id}});
  Send("input_audio_buffer.committed", {{"previous_item_id", IdOrNull(previous_item_id_)}, {"item_id", item.id}});
  const Json content = Json::array({{{"type", "input_audio"}, {"transcript", nullptr}}});
  const Json fields = {{"previous_item_id", IdOrNull(previous_item_id_)},
                       {"item",
                        {{"id", item.id},
                         {"type", "message"},
                         {"object", "realtime.item"},
                         {"status", "completed"},
                         {"role", "user"},
                         {"content", content}}}};
  if (dialect_ == RealtimeDialect::kBeta) {
    Send("conversation.item.created", fields);
  } else {
    Send("conversation.item.added", fields);
    Send("conversation.item.done", fields);
  }
  previous_item_id_ = item.id;
  items_.push_back({.id = NewId("item_")});
}

void OpenAiRealtime::CompleteFirst() {
  Item item = std::move(items_.front());
  items_.pop_front();
  if (item.dropped) return;
  SendDelta(item, item.text);
  Send("conversation.item.input_audio_transcription.completed",
       {{"item_id", item.id},
        {"content_index", 0},
        {"transcript", item.text},
        {"usage", {{"type", "duration"}, {"seconds", Milliseconds(item.audio_s)}}}});
}

void OpenAiRealtime::SendDelta(Item& item, const std::string& stable_text) {
  if (item.dropped || stable_text.size() <= item.sent.size() || !stable_text.starts_with(item.sent)) return;
  const std::string delta = stable_text.substr(item.sent.size());
  item.sent = stable_text;
  Send("conversation.item.input_audio_transcription.delta",
       {{"item_id", item.id}, {"content_index", 0}, {"delta", delta}});
}

void OpenAiRealtime::OnUpdate(StreamUpdate update) {
  client_event_id_.clear();
  if (!update.error.empty()) {
    Send("conversation.item.input_audio_transcription.failed",
         {{"item_id", items_.front().id},
          {"content_index", 0},
          {"error", {{"type", "server_error"}, {"code", nullptr}, {"message", update.error}, {"param", nullptr}}}});
    return host_.Close(CloseCode::kInternal, "the stream failed");
  }
  AppendText(items_.front().text, JoinSegments(update.finals));
  if (update.committed && items_.size() > 1) CompleteFirst();
  if (update.finished) {
    while (items_.size() > 1) CompleteFirst();
    if (draining_) host_.Close(CloseCode::kGoingAway, "the server ends");
    return;
  }
  // What is stable but not final belongs to the first item that is not complete.
  std::string stable = items_.front().text;
  AppendText(stable, JoinWords(update.words, 0, update.stable_words));
  // A turn that begins is told before its first words.
  DetectTurn(update);
  SendDelta(items_.front(), stable);
}

void OpenAiRealtime::DetectTurn(const StreamUpdate& update) {
  // While a commit waits for its answer, speech may still be that of before.
  if (!session_.server_vad || draining_ || items_.size() > 1) return;
  Item& item = items_.back();
  const bool closed = !update.finals.empty() && !update.committed;
  if (!item.speaking && (update.speech || closed)) {
    item.speaking = true;
    double start_s = update.speech_since_s;
    if (!update.speech) start_s = update.finals.front().start_s;
    start_s = std::max(0.0, start_s - session_.prefix_padding_ms / 1000.0);
    Send("input_audio_buffer.speech_started",
         {{"audio_start_ms", ToMs(stream_start_s_ + start_s)}, {"item_id", item.id}});
    item.last_speech_s = update.recognized_s;
  }
  if (update.speech) item.last_speech_s = update.recognized_s;
  const bool silent = update.recognized_s - item.last_speech_s >= session_.silence_ms / 1000.0;
  if (!item.speaking || update.speech || !(silent || closed)) return;
  item.speaking = false;
  Send("input_audio_buffer.speech_stopped",
       {{"audio_end_ms", ToMs(stream_start_s_ + update.recognized_s)}, {"item_id", item.id}});
  Commit();
  host_.stream()->Commit();
}

void OpenAiRealtime::OnDrain() {
  if (std::exchange(draining_, true)) return;
  client_event_id_.clear();
  if (!host_.stream()) return host_.Close(CloseCode::kGoingAway, "the server ends");
  if (items_.back().audio_s > 0) Commit();
  host_.stream()->InputFinished();
}

void OpenAiRealtime::Send(const char* type, Json fields) {
  Json event = {{"type", type}, {"event_id", NewId("event_")}};
  event.update(fields);
  host_.Send(ToText(event));
}

void OpenAiRealtime::SendError(const std::string& message, const std::string& code, const std::string& param) {
  Send("error", {{"error",
                  {{"type", kInvalid},
                   {"code", code},
                   {"message", message},
                   {"param", IdOrNull(param)},
                   {"event_id", IdOrNull(client_event_id_)}}}});
}

}  // namespace earshot
