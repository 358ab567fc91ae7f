#include "src/frontend/window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "src/base/error.h"

namespace earshot {
namespace {

TEST(WindowFunction, AreSymmetricWithTheirKnownValues) {
  struct Case {
    const char* name;
    double first, quarter, middle;  // of 401 samples: 0, 100, 200
  };
  for (const Case& c :
       {Case{"hann", 0, 0.5, 1}, Case{"hamming", 0.08, 0.54, 1}, Case{"blackman", 0, 0.34, 1},
        Case{"sine", 0, std::sqrt(0.5), 1}, Case{"rectangular", 1, 1, 1}, Case{"povey", 0, std::pow(0.5, 0.85), 1}}) {
    const std::vector<float> window = WindowFunction(c.name, 401);
    ASSERT_EQ(window.size(), 401U);
    EXPECT_NEAR(window[0], c.first, 1e-6) << c.name;
    EXPECT_NEAR(window[100], c.quarter, 1e-6) << c.name;
    EXPECT_NEAR(window[200], c.middle, 1e-6) << c.name;
    for (size_t n = 0; n < 401; ++n) EXPECT_NEAR(window[n], window[400 - n], 1e-6) << c.name << " " << n;
  }
}

TEST(WindowFunction, UnknownNamesAreErrors) {
  try {
    WindowFunction("povei", 400);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("did you mean 'povey'"));
  }
}

}  // namespace
}  // namespace earshot
