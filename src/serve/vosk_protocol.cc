#include "src/serve/vosk_protocol.h"

#include <cmath>
#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

// Seconds of audio, beyond twice the latency, that recognition may be behind a message when that is answered.
constexpr double kMaxBehind = 0.5;

}  // namespace

void VoskProtocol::OnText(std::string_view text) {
  if (ending_) return;
  try {
    const Json message = ParseJsonObject(text);
    if (message.contains("config")) return Configure(ObjectOr(message, "config"));
    if (FlagOr(message, "eof", false)) return Finish();
    if (FlagOr(message, "reset", false)) return Reset();
    Throw("expected a message with 'config', 'reset' or 'eof'");
  } catch (const Error& e) {
    host_.Send(ToText({{"error", e.what()}}));
  }
}

void VoskProtocol::Configure(const Json& config) {
  const double rate = NumberOr(config, "sample_rate", sample_rate_);
  if (host_.stream() && rate != sample_rate_) Throw("the sample rate comes before the audio");
  if (rate != 0 && !(rate >= 4000 && rate <= 192000)) Throw("sample_rate: {} Hz, expected 4000 to 192000", rate);
  sample_rate_ = rate;
  with_words_ = FlagOr(config, "words", with_words_);
  as_alternatives_ = NumberOr(config, "max_alternatives", as_alternatives_ ? 1 : 0) >= 1;
}

bool VoskProtocol::Open() {
  if (sample_rate_ == 0) sample_rate_ = host_.info().sample_rate;
  if (host_.OpenStream({.sample_rate = sample_rate_})) return true;
  ending_ = true;
  host_.Close(CloseCode::kTryAgainLater, "no stream is free");
  return false;
}

void VoskProtocol::OnBinary(std::string_view bytes) {
  if (ending_) return;
  if (!host_.stream() && !Open()) return;
  const std::vector<float> samples = decoder_.Decode(bytes);
  sent_s_ += static_cast<double>(samples.size()) / sample_rate_;
  host_.stream()->AcceptWaveform(samples);
  ++unanswered_;
  Answer();
}

void VoskProtocol::OnUpdate(StreamUpdate update) {
  if (!update.error.empty()) {
    host_.Send(ToText({{"error", update.error}}));
    return host_.Close(CloseCode::kInternal, "the stream failed");
  }
  recognized_s_ = update.recognized_s;
  for (Segment& segment : update.finals) results_.push_back(std::move(segment));
  partial_ = JoinWords(update.words, 0, update.words.size());
  if (update.committed || update.finished) SendAll();
  if (!update.finished) return Answer();
  host_.Close(draining_ ? CloseCode::kGoingAway : CloseCode::kNormal, draining_ ? "the server ends" : "");
}

void VoskProtocol::SendAll() {
  // A client that did not wait has answers coming; the last is for its eof or reset.
  for (; unanswered_ > 0; --unanswered_) host_.Send(ToText({{"partial", ""}}));
  std::vector<Word> words;
  std::string text;
  for (const Segment& segment : results_) {
    words.insert(words.end(), segment.words.begin(), segment.words.end());
    AppendText(text, segment.text);
  }
  results_.clear();
  SendResult(words, text);
}

bool VoskProtocol::KeepsUp() const {
  const double behind_s = 2e-3 * host_.info().default_latency_ms + kMaxBehind;
  return sent_s_ - recognized_s_ <= behind_s || host_.stream()->queued_s() <= behind_s;
}

void VoskProtocol::Answer() {
  for (; unanswered_ > 0 && !ending_ && KeepsUp(); --unanswered_) {
    if (results_.empty()) {
      host_.Send(ToText({{"partial", partial_}}));
    } else {
      SendResult(results_.front().words, results_.front().text);
      results_.pop_front();
    }
  }
}

void VoskProtocol::SendResult(const std::vector<Word>& words, const std::string& text) {
  Json message = Json::object();
  if (with_words_ && !words.empty()) {
    Json list = Json::array();
    for (const Word& word : words) {
      list.push_back({{"conf", std::round(word.confidence * 1e4) / 1e4},
                      {"end", Milliseconds(word.end_s)},
                      {"start", Milliseconds(word.start_s)},
                      {"word", word.text}});
    }
    message["result"] = std::move(list);
  }
  message["text"] = text;
  if (as_alternatives_) {
    double confidence = 0;
    for (const Word& word : words) confidence += word.confidence / static_cast<double>(words.size());
    Json best = {{"confidence", std::round(confidence * 1e4) / 1e4}};
    best.update(message);
    message = {{"alternatives", Json::array({std::move(best)})}};
  }
  host_.Send(ToText(message));
}

void VoskProtocol::Reset() {
  if (host_.stream()) return host_.stream()->Commit();
  SendAll();
}

void VoskProtocol::Finish() {
  if (!host_.stream() && !Open()) return;
  ending_ = true;
  host_.stream()->InputFinished();
}

void VoskProtocol::OnDrain() {
  draining_ = true;
  if (!host_.stream()) return host_.Close(CloseCode::kGoingAway, "the server ends");
  if (!ending_) Finish();
}

}  // namespace earshot
