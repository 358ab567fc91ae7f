#include "src/train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}

// TFRecord stores CRCs masked, so that the CRC of data that holds CRCs stays a good one
// (tensorflow/core/lib/hash/crc32c.h).
uint32_t MaskedCrc32c(std::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return std::rotr(crc, 15) + 0xA282EAD8U;
}

template <class Unsigned>
void AppendLittleEndian(std::string& out, Unsigned value) {
  for (size_t i = 0; i < sizeof(Unsigned); ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xFF));
}

// A protocol buffer message (protobuf.dev/programming-guides/encoding): fields of key and value, where
// the key holds the number from the .proto file and the wire type.
class Message {
 public:
  Message& Varint(uint32_t field, uint64_t value) {
    Key(field, 0);
    AppendVarint(value);
    return *this;
  }
  Message& Double(uint32_t field, double value) {
    Key(field, 1);
    AppendLittleEndian(bytes_, std::bit_cast<uint64_t>(value));
    return *this;
  }
  // Strings and messages within.
  Message& Bytes(uint32_t field, std::string_view value) {
    Key(field, 2);
    AppendVarint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& Bytes(uint32_t field, const Message& value) { return Bytes(field, value.bytes_); }
  Message& Float(uint32_t field, float value) {
    Key(field, 5);
    AppendLittleEndian(bytes_, std::bit_cast<uint32_t>(value));
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Key(uint32_t field, uint32_t wire_type) { AppendVarint((field << 3U) | wire_type); }
  void AppendVarint(uint64_t value) {
    for (; value >= 0x80; value >>= 7U) bytes_.push_back(static_cast<char>(value | 0x80U));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

// Field numbers of tensorflow/core/util/event.proto and tensorflow/core/framework/{summary,tensor,
// tensor_shape,types}.proto.
namespace event {
constexpr uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace session_log {
constexpr uint32_t kStatus = 1, kStatusStart = 1;
}
namespace summary {
constexpr uint32_t kValue = 1;
namespace value {
constexpr uint32_t kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;
}
namespace metadata {
constexpr uint32_t kPluginData = 1, kPluginName = 1;
}
}  // namespace summary
namespace tensor {
constexpr uint32_t kType = 1, kTypeString = 7, kShape = 2, kStringValue = 8;
constexpr uint32_t kShapeDim = 2, kDimSize = 1;
}  // namespace tensor

Message MakeEvent(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return Message().Double(event::kWallTime, now.count()).Varint(event::kStep, static_cast<uint64_t>(step));
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = MakeCrcTable();
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) crc = (crc >> 8U) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFFU];
  return ~crc;
}

EventWriter::EventWriter(const std::string& folder) {
  static std::atomic<int> count{0};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) Throw("{}: cannot make the folder for TensorBoard events: {}", folder, error.message());
  char host[256] = "localhost";
  gethostname(host, sizeof(host) - 1);
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  // TensorBoard reads a folder's files in the order of their names, so time comes first, ten digits wide.
  path_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{}", folder, seconds, host, getpid(), count++);
  stream_.open(path_, std::ios::binary | std::ios::trunc);
  if (!stream_) Throw("{}: cannot be written: {}", path_, std::strerror(errno));
  WriteRecord(MakeEvent(0).Bytes(event::kFileVersion, "brain.Event:2").bytes());
  Flush();
}

EventWriter::~EventWriter() = default;

void EventWriter::Scalar(const std::string& tag, int64_t step, double value) {
  const Message entry =
      Message().Bytes(summary::value::kTag, tag).Float(summary::value::kSimpleValue, static_cast<float>(value));
  WriteRecord(MakeEvent(step).Bytes(event::kSummary, Message().Bytes(summary::kValue, entry)).bytes());
}

void EventWriter::Text(const std::string& tag, int64_t step, const std::string& text) {
  const Message shape = Message().Bytes(tensor::kShapeDim, Message().Varint(tensor::kDimSize, 1));
  const Message one_string = Message()
                                 .Varint(tensor::kType, tensor::kTypeString)
                                 .Bytes(tensor::kShape, shape)
                                 .Bytes(tensor::kStringValue, text);
  const Message plugin =
      Message().Bytes(summary::metadata::kPluginData, Message().Bytes(summary::metadata::kPluginName, "text"));
  const Message entry = Message()
                            .Bytes(summary::value::kTag, tag)
                            .Bytes(summary::value::kTensor, one_string)
                            .Bytes(summary::value::kMetadata, plugin);
  WriteRecord(MakeEvent(step).Bytes(event::kSummary, Message().Bytes(summary::kValue, entry)).bytes());
}

void EventWriter::Resume(int64_t step) {
  const Message start = Message().Varint(session_log::kStatus, session_log::kStatusStart);
  WriteRecord(MakeEvent(step).Bytes(event::kSessionLog, start).bytes());
}

void EventWriter::Flush() {
  stream_.flush();
  if (!stream_) Throw("{}: writing failed: {}; is the disk full?", path_, std::strerror(errno));
}

// tensorflow/core/lib/io/record_writer.h: uint64 length, its masked CRC, the bytes, their masked CRC.
void EventWriter::WriteRecord(std::string_view event) {
  std::string header;
  AppendLittleEndian(header, static_cast<uint64_t>(event.size()));
  AppendLittleEndian(header, MaskedCrc32c(header));
  std::string footer;
  AppendLittleEndian(footer, MaskedCrc32c(event));
  stream_ << header << event << footer;
}

}  // namespace earshot
