#include "src/serve/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace earshot {
namespace {

using ::testing::HasSubstr;

TEST(Metrics, HistogramsAreCumulative) {
  ServiceStats stats{.audio_s_total = 100, .compute_s_total = 25, .latency_s_total = 3.5};
  stats.latency_counts[0] = 2;  // up to 0.01 s
  stats.latency_counts[2] = 3;
  stats.latency_counts[9] = 1;  // above 5 s
  const std::string text = ServerMetrics().Format(stats, {.max_streams = 7});
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_bucket{le=\"0.01\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_bucket{le=\"0.02\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_bucket{le=\"0.05\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_bucket{le=\"5\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_bucket{le=\"+Inf\"} 6\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_count 6\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_latency_seconds_sum 3.5\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_real_time_factor 0.25\n"));
  EXPECT_THAT(text, HasSubstr("\nearshot_max_streams 7\n"));
}

TEST(Metrics, CountsAnswersByStatus) {
  ServerMetrics metrics;
  metrics.CountResponse(200);
  metrics.CountResponse(404);
  metrics.CountResponse(200);
  const std::string text = metrics.Format({}, {});
  EXPECT_THAT(text, HasSubstr("earshot_http_requests_total{code=\"200\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("earshot_http_requests_total{code=\"404\"} 1\n"));
}

TEST(Metrics, AHoldCountsAsLongAsItLives) {
  Gauge gauge;
  {
    GaugeHold first = GaugeHold::UpTo(gauge, 2);
    GaugeHold second = std::move(first);
    EXPECT_TRUE(second);
    EXPECT_EQ(gauge.now, 1);
    const GaugeHold third = GaugeHold::UpTo(gauge, 2);
    EXPECT_TRUE(third);
    EXPECT_FALSE(GaugeHold::UpTo(gauge, 2));
    EXPECT_EQ(gauge.now, 2);
  }
  EXPECT_EQ(gauge.now, 0);
  EXPECT_EQ(gauge.total, 2);
}

}  // namespace
}  // namespace earshot
