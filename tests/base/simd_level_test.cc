#include "src/base/simd_level.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/support/simd_guard.h"

namespace earshot {
namespace {

TEST(SimdLevel, CanBeForced) {
  for (const SimdLevel level : SupportedSimdLevels()) {
    const ScopedSimdLevel scope(level);
    EXPECT_EQ(ChooseSimdLevel(), level);
  }
  const ScopedSimdLevel best("");
  EXPECT_EQ(ChooseSimdLevel(), SupportedSimdLevels().back());
}

TEST(SimdLevel, UnknownNamesAreErrors) {
  const ScopedSimdLevel scope("avx9000");
  EXPECT_THROW(ChooseSimdLevel(), Error);
}

TEST(SimdLevel, AreCutAtTheHighestWanted) {
  EXPECT_EQ(SupportedSimdLevels(SimdLevel::kBaseline), std::vector<SimdLevel>{SimdLevel::kBaseline});
  for (const SimdLevel level : SupportedSimdLevels()) EXPECT_EQ(SupportedSimdLevels(level).back(), level);
}

}  // namespace
}  // namespace earshot
