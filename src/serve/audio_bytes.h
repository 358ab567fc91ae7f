// Audio as it comes over a network: bytes to samples, of one channel, in [-1, 1].
//
//   AudioDecoder decoder({.encoding = AudioEncoding::kS16});
//   std::vector<float> samples = decoder.Decode(message);   // a sample cut by the message's end waits for its rest
//
// Little-endian; NaN and infinity become 0, and what is louder than full scale is cut to it. Channels are averaged. Not
// thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace earshot {

enum class AudioEncoding {
  kS16,   // signed 16-bit integers
  kF32,   // IEEE floats
  kULaw,  // ITU-T G.711, 8 bits
  kALaw,
};

struct AudioBytesFormat {
  AudioEncoding encoding = AudioEncoding::kS16;
  int channels = 1;
};

class AudioDecoder {
 public:
  explicit AudioDecoder(const AudioBytesFormat& format = {}) : format_(format) {}

  // Returns (S), the samples that are whole; bytes may be any number, 0 too.
  std::vector<float> Decode(std::string_view bytes);

  // Forgets the beginning of a sample that waits for its rest.
  void Reset() { rest_.clear(); }

  const AudioBytesFormat& format() const { return format_; }

 private:
  AudioBytesFormat format_;
  std::string rest_;
};

}  // namespace earshot
