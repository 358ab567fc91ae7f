#include "src/serve/audio_bytes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace earshot {
namespace {

static_assert(std::endian::native == std::endian::little, "samples are copied as they come");

size_t BytesOf(AudioEncoding encoding) {
  switch (encoding) {
    case AudioEncoding::kS16: return 2;
    case AudioEncoding::kF32: return 4;
    case AudioEncoding::kULaw:
    case AudioEncoding::kALaw: return 1;
  }
  return 1;
}

// G.711, table 2a: a sign, three bits of exponent and four of mantissa, inverted; 0x84 is the bias.
float FromULaw(uint8_t code) {
  const int bits = ~code & 0xff;
  const int magnitude = ((((bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4)) - 0x84;
  return static_cast<float>((bits & 0x80) ? -magnitude : magnitude) / 32768.0f;
}

// G.711, table 1a: every other bit is inverted; the lowest exponent is linear.
float FromALaw(uint8_t code) {
  const int bits = code ^ 0x55;
  const int exponent = (bits & 0x70) >> 4;
  int magnitude = ((bits & 0x0f) << 4) + 8;
  if (exponent > 0) magnitude = (magnitude + 0x100) << (exponent - 1);
  return static_cast<float>((bits & 0x80) ? magnitude : -magnitude) / 32768.0f;
}

float ReadSample(AudioEncoding encoding, const char* bytes) {
  switch (encoding) {
    case AudioEncoding::kS16: {
      int16_t value;
      std::memcpy(&value, bytes, sizeof(value));
      return static_cast<float>(value) / 32768.0f;
    }
    case AudioEncoding::kF32: {
      float value;
      std::memcpy(&value, bytes, sizeof(value));
      return std::isfinite(value) ? std::clamp(value, -1.0f, 1.0f) : 0.0f;
    }
    case AudioEncoding::kULaw: return FromULaw(static_cast<uint8_t>(*bytes));
    case AudioEncoding::kALaw: return FromALaw(static_cast<uint8_t>(*bytes));
  }
  return 0;
}

}  // namespace

std::vector<float> AudioDecoder::Decode(std::string_view bytes) {
  const size_t sample_bytes = BytesOf(format_.encoding);
  const size_t channels = static_cast<size_t>(format_.channels);
  const size_t frame_bytes = sample_bytes * channels;
  std::string joined;
  if (!rest_.empty()) {
    joined = rest_;
    joined += bytes;
    bytes = joined;
  }
  std::vector<float> samples(bytes.size() / frame_bytes);
  for (size_t i = 0; i < samples.size(); ++i) {
    float sum = 0;
    for (size_t c = 0; c < channels; ++c)
      sum += ReadSample(format_.encoding, bytes.data() + i * frame_bytes + c * sample_bytes);
    samples[i] = sum / static_cast<float>(channels);
  }
  rest_ = std::string(bytes.substr(samples.size() * frame_bytes));
  return samples;
}

}  // namespace earshot
