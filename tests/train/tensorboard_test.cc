#include "src/train/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

class TensorboardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / (std::string("earshot_events_") + info->name());
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
};

// The vectors of RFC 3720, appendix B.4, and the check value of the CRC catalogues.
TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(Crc32c(""), 0U);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) {
    rising.push_back(static_cast<char>(i));
    falling.push_back(static_cast<char>(31 - i));
  }
  EXPECT_EQ(Crc32c(rising), 0x46DD794EU);
  EXPECT_EQ(Crc32c(falling), 0x113FDB5CU);
}

// What follows reads event files by the specifications, and shares nothing with the writer but the
// CRC, which has vectors of its own above.
template <class T>
T Load(const std::string& bytes, size_t at) {
  T value;
  if (at + sizeof(T) > bytes.size()) throw Error("cut short");
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

std::vector<std::string> ReadRecords(const std::string& path) {
  const auto unmasked = [](uint32_t masked) {
    const uint32_t rotated = masked - 0xA282EAD8U;
    return (rotated >> 17U) | (rotated << 15U);
  };
  const std::string bytes = ReadFile(path);
  std::vector<std::string> records;
  for (size_t at = 0; at < bytes.size();) {
    const auto size = Load<uint64_t>(bytes, at);
    EXPECT_EQ(unmasked(Load<uint32_t>(bytes, at + 8)), Crc32c(bytes.substr(at, 8)));
    records.push_back(bytes.substr(at + 12, size));
    EXPECT_EQ(unmasked(Load<uint32_t>(bytes, at + 12 + size)), Crc32c(records.back()));
    at += 12 + size + 4;
  }
  return records;
}

// Field number -> its values: numbers as their eight bytes' value, the rest as bytes.
struct Decoded {
  std::map<uint64_t, uint64_t> numbers;
  std::map<uint64_t, std::string> bytes;
};

Decoded Decode(const std::string& message) {
  Decoded decoded;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = Load<uint8_t>(message, at++);
      value |= static_cast<uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t key = varint();
    switch (key & 7U) {
      case 0: decoded.numbers[key >> 3U] = varint(); break;
      case 1:
        decoded.numbers[key >> 3U] = Load<uint64_t>(message, at);
        at += 8;
        break;
      case 2: {
        const uint64_t size = varint();
        decoded.bytes[key >> 3U] = message.substr(at, size);
        at += size;
        break;
      }
      case 5:
        decoded.numbers[key >> 3U] = Load<uint32_t>(message, at);
        at += 4;
        break;
      default: throw Error("unknown wire type");
    }
  }
  return decoded;
}

float AsFloat(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

TEST_F(TensorboardTest, ScalarsReadBack) {
  std::string path;
  {
    EventWriter events(folder_ / "new" / "run");
    path = events.path();
    events.Scalar("train/loss", 3, 1.25);
    events.Scalar("train/loss", 5'000'000'000, std::numeric_limits<double>::quiet_NaN());
  }
  EXPECT_EQ(fs::path(path).filename().string().rfind("events.out.tfevents.", 0), 0U) << path;
  const std::vector<std::string> records = ReadRecords(path);
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(Decode(records[0]).bytes.at(3), "brain.Event:2");

  const Decoded event = Decode(records[1]);
  EXPECT_EQ(event.numbers.at(2), 3U);
  EXPECT_GT(std::bit_cast<double>(event.numbers.at(1)), 1.6e9);  // seconds since 1970
  const Decoded value = Decode(Decode(event.bytes.at(5)).bytes.at(1));
  EXPECT_EQ(value.bytes.at(1), "train/loss");
  EXPECT_EQ(AsFloat(value.numbers.at(2)), 1.25f);

  const Decoded late = Decode(records[2]);
  EXPECT_EQ(late.numbers.at(2), 5'000'000'000U);
  EXPECT_TRUE(std::isnan(AsFloat(Decode(Decode(late.bytes.at(5)).bytes.at(1)).numbers.at(2))));
}

TEST_F(TensorboardTest, TextReadsBack) {
  EventWriter events(folder_);
  const std::string text(1000, 'x');  // a length of two varint bytes
  events.Text("config", 7, text);
  events.Flush();
  const Decoded event = Decode(ReadRecords(events.path()).at(1));
  EXPECT_EQ(event.numbers.at(2), 7U);
  const Decoded value = Decode(Decode(event.bytes.at(5)).bytes.at(1));
  EXPECT_EQ(value.bytes.at(1), "config");
  EXPECT_EQ(Decode(Decode(value.bytes.at(9)).bytes.at(1)).bytes.at(1), "text");
  const Decoded tensor = Decode(value.bytes.at(8));
  EXPECT_EQ(tensor.numbers.at(1), 7U);  // DT_STRING
  EXPECT_EQ(Decode(Decode(tensor.bytes.at(2)).bytes.at(2)).numbers.at(1), 1U);
  EXPECT_EQ(tensor.bytes.at(8), text);
}

TEST_F(TensorboardTest, ResumeMarksTheStep) {
  EventWriter events(folder_);
  events.Resume(40);
  events.Flush();
  const Decoded event = Decode(ReadRecords(events.path()).at(1));
  EXPECT_EQ(event.numbers.at(2), 40U);
  EXPECT_EQ(Decode(event.bytes.at(7)).numbers.at(1), 1U);  // SessionLog.START
}

TEST_F(TensorboardTest, WritersOfOneFolderHaveTheirOwnFiles) {
  const EventWriter first(folder_), second(folder_);
  EXPECT_NE(first.path(), second.path());
}

TEST_F(TensorboardTest, AFolderThatCannotBeMadeIsAnError) {
  fs::create_directories(folder_);
  WriteFileAtomically(folder_ / "file", "x");
  try {
    EventWriter events(folder_ / "file" / "run");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("TensorBoard"));
  }
}

}  // namespace
}  // namespace earshot
