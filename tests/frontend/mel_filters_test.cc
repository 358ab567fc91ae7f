#include "src/frontend/mel_filters.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/base/error.h"

namespace earshot {
namespace {

// Dense row m, of fft_size / 2 weights.
std::vector<float> Row(const MelFilters& filters, int m, int fft_size) {
  std::vector<float> row(static_cast<size_t>(fft_size / 2), 0.0f);
  const int offset = filters.offsets[static_cast<size_t>(m)];
  const int width = filters.offsets[static_cast<size_t>(m) + 1] - offset;
  std::copy_n(filters.weights.begin() + offset, width, row.begin() + filters.first_bins[static_cast<size_t>(m)]);
  return row;
}

TEST(MelFilters, OverlapToOne) {
  // Neighbouring triangles are straight over mel and cross at one half, so between the first and the last centre
  // the weights at every bin add up to 1.
  const MelFilters filters = MakeMelFilters({}, 512, 1.0f);
  std::vector<float> sum(256, 0.0f);
  for (int m = 0; m < 80; ++m) {
    const std::vector<float> row = Row(filters, m, 512);
    EXPECT_LE(*std::max_element(row.begin(), row.end()), 1.0f);
    for (size_t k = 0; k < 256; ++k) sum[k] += row[k];
  }
  for (size_t k = 3; k < 245; ++k) EXPECT_NEAR(sum[k], 1.0f, 1e-5) << "bin " << k;
  EXPECT_EQ(sum[0], 0.0f);  // 0 Hz lies below low_freq
}

TEST(MelFilters, WarpMovesFilters) {
  // The warp divides frequencies between its knees: a filter's peak moves to 1 / warp of its place.
  const MelFilters plain = MakeMelFilters({}, 4096, 1.0f);
  const MelFilters low = MakeMelFilters({}, 4096, 1.2f);
  for (const int m : {20, 40, 60}) {
    const auto peak = [&](const MelFilters& filters) {
      const std::vector<float> row = Row(filters, m, 4096);
      return static_cast<double>(std::max_element(row.begin(), row.end()) - row.begin());
    };
    EXPECT_NEAR(peak(low) * 1.2, peak(plain), 1.5) << "filter " << m;
  }
}

TEST(MelFilters, SlaneyFiltersHaveAreaOne) {
  FbankOptions options{.low_freq = 0, .mel_scale = MelScale::kSlaney};
  const MelFilters filters = MakeMelFilters(options, 1 << 15, 1.0f);
  const float hz_per_bin = 16000.0f / (1 << 15);
  for (int m = 0; m < 80; ++m) {
    float area = 0;
    for (const float weight : Row(filters, m, 1 << 15)) area += weight * hz_per_bin;
    EXPECT_NEAR(area, 1.0f, 1e-3) << "filter " << m;
  }
}

TEST(MelFilters, BadWarpsAreErrors) {
  EXPECT_THROW(MakeMelFilters({}, 512, 0.0f), Error);
  EXPECT_THROW(MakeMelFilters({}, 512, 3.0f), Error);
  EXPECT_THROW(MakeMelFilters({.low_freq = 200}, 512, 1.1f), Error);  // vtln_low lies below low_freq
  EXPECT_NO_THROW(MakeMelFilters({.low_freq = 200}, 512, 1.0f));
}

TEST(MelFilters, EmptyFiltersAreAnErrorForKaldiOnly) {
  EXPECT_THROW(MakeMelFilters({.num_mel_bins = 200}, 512, 1.0f), Error);
  const MelFilters filters =
      MakeMelFilters({.num_mel_bins = 200, .low_freq = 0, .mel_scale = MelScale::kSlaney}, 512, 1.0f);
  EXPECT_EQ(filters.first_bins.size(), 200U);
}

}  // namespace
}  // namespace earshot
