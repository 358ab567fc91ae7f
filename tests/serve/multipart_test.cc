#include "src/serve/multipart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

using ::testing::ElementsAre;

struct Part {
  std::string name, filename, body;
  bool operator==(const Part& other) const {
    return name == other.name && filename == other.filename && body == other.body;
  }
};

class Collector : public MultipartHandler {
 public:
  void OnPart(const MultipartHeader& header) override { parts.push_back({header.name, header.filename, ""}); }
  void OnBytes(std::string_view bytes) override { parts.back().body += bytes; }
  std::vector<Part> parts;
};

std::vector<Part> Parse(const std::vector<std::string_view>& pieces, const std::string& boundary = "XX") {
  Collector collector;
  MultipartParser parser(boundary, collector);
  for (const std::string_view piece : pieces) parser.Append(piece);
  parser.Finish();
  return collector.parts;
}

const std::string kForm =
    "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nan4\r\n"
    "--XX\r\nContent-Type: audio/wav\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"\r\n"
    "\r\n\r\n--X\r\n--XY\r\n\r--XX\n\r\n"
    "--XX  \r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n"
    "--XX--\r\nwhat follows";

const std::vector<Part> kParts = {
    {"model", "", "an4"}, {"file", "a \"b\".wav", "\r\n--X\r\n--XY\r\n\r--XX\n"}, {"empty", "", ""}};

TEST(Multipart, ReadsPartsWhoseBytesLookLikeBoundaries) { EXPECT_EQ(Parse({kForm}), kParts); }

TEST(Multipart, EverySplitInTwoGivesTheSame) {
  for (size_t i = 0; i <= kForm.size(); ++i) {
    const std::string_view form = kForm;
    EXPECT_EQ(Parse({form.substr(0, i), form.substr(i)}), kParts) << "split at " << i;
  }
}

TEST(Multipart, ByteByByteGivesTheSame) {
  std::vector<std::string_view> pieces;
  for (size_t i = 0; i < kForm.size(); ++i) pieces.push_back(std::string_view(kForm).substr(i, 1));
  EXPECT_EQ(Parse(pieces), kParts);
}

TEST(Multipart, APreambleIsPassedOver) {
  EXPECT_EQ(Parse({"hello\r\n" + kForm}), kParts);
  EXPECT_EQ(Parse({"\r\n" + kForm}), kParts);
}

TEST(Multipart, EveryCutIsAnError) {
  const size_t end = kForm.find("XX--") + 4;
  for (size_t i = 0; i < end; ++i) EXPECT_THROW(Parse({std::string_view(kForm).substr(0, i)}), Error) << i;
}

TEST(Multipart, RefusesWhatIsNoForm) {
  const auto part = [](const std::string& header) { return "--XX\r\n" + header + "\r\n\r\nx\r\n--XX--\r\n"; };
  EXPECT_THROW(Parse({part("Content-Type: text/plain")}), Error);         // no disposition
  EXPECT_THROW(Parse({part("Content-Disposition: form-data")}), Error);   // no name
  EXPECT_THROW(Parse({part("nothing of the kind")}), Error);              // no colon
  EXPECT_THROW(Parse({"--XXjunk\r\n\r\n"}), Error);                       // another boundary
  EXPECT_THROW(Parse({"--XX\r\nA: " + std::string(10000, 'a')}), Error);  // a header without end
  EXPECT_THROW(Parse({std::string(20000, 'a')}), Error);                  // no boundary at all
  EXPECT_THROW(Parse({"--XX" + std::string(20000, ' ')}), Error);         // a boundary's line without end
  std::string many;
  for (int i = 0; i < 200; ++i) many += "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
  EXPECT_THROW(Parse({many + "--XX--"}), Error);
}

TEST(Multipart, GarbageIsAnErrorAndNothingElse) {
  Random random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = kForm;
    for (int i = 0; i < 8; ++i)
      bytes[static_cast<size_t>(random.Index(static_cast<int64_t>(bytes.size())))] = "\r\n-X\";=\0"[random.Index(8)];
    try {
      Parse({bytes});
    } catch (const Error&) {
    }
  }
}

TEST(Multipart, FindsTheBoundary) {
  EXPECT_EQ(BoundaryOf("multipart/form-data; boundary=abc"), "abc");
  EXPECT_EQ(BoundaryOf("Multipart/Form-Data;charset=utf-8; Boundary=\"a b;c\""), "a b;c");
  for (const char* type : {"", "text/plain", "multipart/form-data", "multipart/form-data; boundary=",
                           "multipart/mixed; boundary=abc", "multipart/form-data; boundary"})
    EXPECT_THROW(BoundaryOf(type), Error) << type;
}

}  // namespace
}  // namespace earshot
