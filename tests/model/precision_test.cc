#include "src/model/precision.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace earshot {
namespace {

TEST(PrecisionTest, NamesAreThoseOfTheManual) {
  EXPECT_EQ(ParsePrecision("float", torch::kCPU), InferencePrecision::kFloat);
  EXPECT_EQ(ParsePrecision("auto", torch::kCPU), Supported(InferencePrecision::kBFloat16));
  if (Supported(InferencePrecision::kInt8) == InferencePrecision::kInt8) {
    EXPECT_EQ(ParsePrecision("int8", torch::kCPU), InferencePrecision::kInt8);
  }
  try {
    ParsePrecision("bflot16", torch::kCPU);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("bfloat16"), std::string::npos) << error.what();
  }
}

TEST(PrecisionTest, IsForTheCpu) {
  EXPECT_FALSE(ParsePrecision("auto", torch::kCUDA));
  EXPECT_FALSE(ParsePrecision("float", torch::kCUDA));
  EXPECT_THROW(ParsePrecision("int8", torch::kCUDA), Error);
}

}  // namespace
}  // namespace earshot
