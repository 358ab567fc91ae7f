// The framing of the Wyoming protocol: a line of JSON, then as many bytes of further JSON and of payload as it says.
//
//   {"type": "audio-chunk", "version": "1.8.0", "data_length": 48, "payload_length": 2048}\n
//   {"rate": 16000, "width": 2, "channels": 1}<2048 bytes>
//
//   WyomingReader reader;
//   reader.Append(bytes);                                   // any number, as they come
//   while (std::optional<WyomingEvent> event = reader.Next()) ...
//
// Throws Error where the bytes are no such thing, or larger than allowed; the connection is then of no more use. Not
// thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "src/serve/json.h"

namespace earshot {

struct WyomingEvent {
  std::string type;
  Json data = Json::object();
  std::string payload;
};

class WyomingReader {
 public:
  // Bytes of a line, and of data and payload each.
  static constexpr size_t kMaxLine = 64 * 1024, kMaxPart = 1024 * 1024;

  void Append(std::string_view bytes) { buffer_ += bytes; }
  std::optional<WyomingEvent> Next();

 private:
  std::string buffer_;
  // Of the event whose line was read.
  std::optional<WyomingEvent> event_;
  size_t data_length_ = 0, payload_length_ = 0;
};

std::string FormatWyomingEvent(const WyomingEvent& event);

}  // namespace earshot
