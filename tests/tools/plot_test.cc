#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "tools/cli/plot_canvas.h"
#include "tools/cli/plot_curves.h"
#include "tools/cli/plot_panel.h"
#include "tools/cli/plot_recording.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class PlotTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / (std::string("earshot_plot_") + info->name());
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

// A tone that swells, with a gate and a band of attention that go with it.
RecordingPlot Swell(double duration_s) {
  RecordingPlot plot;
  plot.title = "swell";
  plot.samples.resize(static_cast<size_t>(16000 * duration_s));
  for (size_t i = 0; i < plot.samples.size(); ++i)
    plot.samples[i] = static_cast<float>(std::sin(0.2 * static_cast<double>(i)) * 0.5 * static_cast<double>(i) /
                                         static_cast<double>(plot.samples.size()));
  plot.num_frames = static_cast<int>(100 * duration_s);
  plot.dim = 8;
  for (int i = 0; i < plot.num_frames * plot.dim; ++i) plot.spectrogram.push_back(static_cast<float>(i % 13));
  plot.attention_frames = static_cast<int>(25 * duration_s);
  for (int q = 0; q < plot.attention_frames; ++q) {
    plot.gate.push_back(static_cast<float>(q + 1) / static_cast<float>(plot.attention_frames));
    for (int k = 0; k < plot.attention_frames; ++k) plot.attention.push_back(std::abs(q - k) < 4 ? 0.14f : 0.0f);
  }
  plot.words = {{"swell", 0.2, 0.6, 1}};
  return plot;
}

std::vector<std::string> Texts(const std::vector<Tick>& ticks) {
  std::vector<std::string> texts;
  for (const Tick& tick : ticks) texts.push_back(tick.text);
  return texts;
}

TEST(Ticks, StandAtRoundValues) {
  EXPECT_THAT(Texts(MakeTicks({.low = 0, .high = 1}, 5)), ElementsAre("0.0", "0.2", "0.4", "0.6", "0.8", "1.0"));
  EXPECT_THAT(Texts(MakeTicks({.low = -3, .high = 80}, 4)), ElementsAre("0", "50"));
  EXPECT_THAT(Texts(MakeTicks({.low = 0.0003, .high = 0.0011}, 4)),
              ElementsAre("0.0004", "0.0006", "0.0008", "0.0010"));
  EXPECT_THAT(Texts(MakeTicks({.low = 3, .high = 60, .is_log = true}, 4)), ElementsAre("5", "10", "20", "50"));
  EXPECT_THAT(Texts(MakeTicks({.low = 0.001, .high = 10, .is_log = true}, 4)),
              ElementsAre("0.001", "0.01", "0.1", "1", "10"));
  EXPECT_TRUE(MakeTicks({.low = 1, .high = 1}, 4).empty());
}

TEST(Ticks, CountTimeAsClocksDo) {
  EXPECT_THAT(Texts(MakeTicks({.high = 2, .is_time = true}, 4)), ElementsAre("0.0", "0.5", "1.0", "1.5", "2.0"));
  EXPECT_THAT(Texts(MakeTicks({.high = 190, .is_time = true}, 4)), ElementsAre("0:00", "1:00", "2:00", "3:00"));
  EXPECT_THAT(Texts(MakeTicks({.high = 7200, .is_time = true}, 2)), ElementsAre("0:00:00", "1:00:00", "2:00:00"));
}

TEST(Viridis, HasItsEndsAndRisesInLightness) {
  EXPECT_NEAR(Viridis(0).blue, 84 / 255.0, 1e-9);
  EXPECT_NEAR(Viridis(1).red, 253 / 255.0, 1e-9);
  EXPECT_NEAR(Viridis(2).red, 253 / 255.0, 1e-9);
  double last = -1;
  for (int i = 0; i <= 100; ++i) {
    const Rgb color = Viridis(i / 100.0);
    const double luminance = 0.2126 * color.red + 0.7152 * color.green + 0.0722 * color.blue;
    EXPECT_GT(luminance, last) << i;
    last = luminance;
  }
}

TEST_F(PlotTest, ARecordingBecomesAPng) {
  DrawRecording(Swell(1), Path("a.png"));
  const std::string png = ReadFile(Path("a.png"));
  EXPECT_THAT(png.substr(0, 8), StartsWith("\x89PNG\r\n\x1a\n"));
  // 720 points at 200 pixels an inch: width in the header, big-endian.
  EXPECT_EQ(png.substr(16, 4), std::string("\0\0\x07\xd0", 4));
  // The same panels without anything in them: a blank sheet packs far smaller.
  RecordingPlot silent = Swell(1);
  std::fill(silent.samples.begin(), silent.samples.end(), 0.0f);
  std::fill(silent.spectrogram.begin(), silent.spectrogram.end(), 0.0f);
  std::fill(silent.attention.begin(), silent.attention.end(), 0.0f);
  DrawRecording(silent, Path("silent.png"));
  EXPECT_GT(png.size(), ReadFile(Path("silent.png")).size() + 5000);
}

TEST_F(PlotTest, ARecordingBecomesAnSvgWithItsMapsInside) {
  DrawRecording(Swell(1), Path("a.svg"));
  const std::string svg = ReadFile(Path("a.svg"));
  EXPECT_THAT(svg, HasSubstr("<svg "));
  EXPECT_THAT(svg, HasSubstr("</svg>"));
  EXPECT_THAT(svg, HasSubstr("data:image/png;base64,"));
  EXPECT_LT(svg.size(), 1'000'000U);
}

TEST_F(PlotTest, ALongRecordingStaysSmall) {
  RecordingPlot plot = Swell(600);
  EXPECT_NO_THROW(DrawRecording(plot, Path("a.svg")));
  EXPECT_LT(ReadFile(Path("a.svg")).size(), 2'000'000U);
}

TEST_F(PlotTest, PanelsWithoutDataAreLeftOut) {
  RecordingPlot plot = Swell(1);
  plot.attention.clear();
  plot.attention_frames = 0;
  plot.gate.clear();
  DrawRecording(plot, Path("a.svg"));
  DrawRecording(Swell(1), Path("b.svg"));
  EXPECT_LT(ReadFile(Path("a.svg")).size(), ReadFile(Path("b.svg")).size());
}

TEST_F(PlotTest, CurvesWithGapsAreDrawn) {
  const std::vector<Curve> curves = {{"loss", {0, 1, 2, 3}, {3, NAN, 2, 1}}, {"one point", {2}, {0}}};
  for (const bool log_y : {false, true}) {
    DrawCurves({.title = "run", .x_label = "epoch", .y_label = "loss", .log_y = log_y}, curves, Path("c.svg"));
    EXPECT_THAT(ReadFile(Path("c.svg")), Not(HasSubstr("nan")));
  }
}

TEST_F(PlotTest, ErrorsSayWhatToDo) {
  const auto error = [](const auto& draw) -> std::string {
    try {
      draw();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(error([&] { DrawRecording(Swell(1), Path("a.pdf")); }), HasSubstr("ends in .svg or .png, found '.pdf'"));
  EXPECT_THAT(error([&] { DrawRecording({}, Path("a.svg")); }), HasSubstr("nothing to draw"));
  EXPECT_THAT(error([&] { DrawCurves({}, {{"x", {1}, {NAN}}}, Path("a.svg")); }), HasSubstr("nothing to draw"));
  EXPECT_FALSE(fs::exists(Path("a.svg")));
}

}  // namespace
}  // namespace earshot
