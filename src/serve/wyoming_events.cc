#include "src/serve/wyoming_events.h"

#include <utility>

#include "src/base/error.h"

namespace earshot {
namespace {

// The version of the protocol that is spoken here.
constexpr const char* kVersion = "1.8.0";

size_t LengthOf(const Json& header, const char* key) {
  const double length = NumberOr(header, key, 0);
  if (!(length >= 0 && length <= static_cast<double>(WyomingReader::kMaxPart)))
    Throw("{}: {}, expected 0 to {}", key, length, WyomingReader::kMaxPart);
  return static_cast<size_t>(length);
}

}  // namespace

std::optional<WyomingEvent> WyomingReader::Next() {
  if (!event_) {
    const size_t end = buffer_.find('\n');
    if (end == std::string::npos ? buffer_.size() > kMaxLine : end > kMaxLine)
      Throw("an event's first line has more than {} bytes", kMaxLine);
    if (end == std::string::npos) return std::nullopt;
    const Json header = ParseJsonObject(std::string_view(buffer_).substr(0, end));
    WyomingEvent event{.type = TextOr(header, "type", ""), .data = ObjectOr(header, "data")};
    if (event.type.empty()) Throw("an event without 'type'");
    data_length_ = LengthOf(header, "data_length");
    payload_length_ = LengthOf(header, "payload_length");
    event_ = std::move(event);
    buffer_.erase(0, end + 1);
  }
  if (buffer_.size() < data_length_ + payload_length_) return std::nullopt;
  const std::string_view bytes = buffer_;
  if (data_length_ > 0) event_->data.update(ParseJsonObject(bytes.substr(0, data_length_)));
  event_->payload = std::string(bytes.substr(data_length_, payload_length_));
  buffer_.erase(0, data_length_ + payload_length_);
  return std::exchange(event_, std::nullopt);
}

std::string FormatWyomingEvent(const WyomingEvent& event) {
  Json header = {{"type", event.type}, {"version", kVersion}};
  std::string data;
  if (!event.data.empty()) {
    data = ToText(event.data);
    header["data_length"] = data.size();
  }
  if (!event.payload.empty()) header["payload_length"] = event.payload.size();
  return ToText(header) + "\n" + data + event.payload;
}

}  // namespace earshot
