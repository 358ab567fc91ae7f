// A connection that writes down what a protocol does with it, and a stream that writes down what it gets.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/serve/json.h"
#include "src/serve/stream_protocol.h"

namespace earshot {

class FakeHost : public StreamHost {
 public:
  FakeHost() { info_ = {.model = "fake", .language = "en", .default_latency_ms = 320, .max_streams = 1}; }

  const ServiceInfo& info() const override { return info_; }
  void Send(std::string message) override {
    if (!close_code) sent.push_back(std::move(message));
  }
  void Close(CloseCode code, const std::string& reason) override {
    if (!close_code) close_code = code;
  }
  bool OpenStream(const StreamOptions& options) override {
    if (!(options.sample_rate >= 4000 && options.sample_rate <= 192000)) Throw("sample rate {}", options.sample_rate);
    stream_.reset();
    if (full) return false;
    opened.push_back(options);
    samples.clear();
    stream_ = std::make_unique<Stream>(*this);
    return true;
  }
  void CloseStream() override { stream_.reset(); }
  LiveStream* stream() override { return stream_.get(); }

  // The messages since the call before, as JSON.
  std::vector<Json> Take() {
    std::vector<Json> messages;
    for (const std::string& message : std::exchange(sent, {})) messages.push_back(Json::parse(message));
    return messages;
  }
  // A key of each of them: their types.
  std::vector<std::string> TakeTypes(const char* key = "type") {
    std::vector<std::string> types;
    for (const Json& message : Take()) types.push_back(message.value(key, "?"));
    return types;
  }

  bool full = false;
  std::vector<std::string> sent;
  std::optional<CloseCode> close_code;
  std::vector<StreamOptions> opened;
  std::vector<float> samples;      // of the stream that is open
  std::vector<std::string> calls;  // "commit", "clear", "finish"
  double queued_s = 0;

 private:
  class Stream : public LiveStream {
   public:
    explicit Stream(FakeHost& host) : host_(host) {}
    void AcceptWaveform(std::span<const float> samples) override {
      host_.samples.insert(host_.samples.end(), samples.begin(), samples.end());
    }
    double queued_s() const override { return host_.queued_s; }
    void Commit() override { host_.calls.emplace_back("commit"); }
    void Clear() override { host_.calls.emplace_back("clear"); }
    void InputFinished() override { host_.calls.emplace_back("finish"); }

   private:
    FakeHost& host_;
  };

  ServiceInfo info_;
  std::unique_ptr<Stream> stream_;
};

// "a b" as a segment that begins at start_s, its words half a second each.
inline Segment MakeSegment(const std::string& text, double start_s = 0) {
  Segment segment{.start_s = start_s, .end_s = start_s, .text = text};
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    segment.words.push_back({text.substr(begin, end - begin), segment.end_s, segment.end_s + 0.5, 0.9f});
    segment.end_s += 0.5;
    begin = end + 1;
  }
  return segment;
}
inline std::vector<Word> MakeWords(const std::string& text) { return MakeSegment(text).words; }

// count samples of 0.25 as s16le.
inline std::string Pcm(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += std::string("\x00\x20", 2);
  return bytes;
}

}  // namespace earshot
