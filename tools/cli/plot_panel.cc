#include "tools/cli/plot_panel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr double kTickSize = 3;
const TextStyle kNumberStyle = {.size = 7};

// Minutes and seconds from two minutes on, hours beyond an hour.
std::string TimeText(double seconds, double span_s, double step_s) {
  if (span_s < 120) return fmt::format("{:.{}f}", seconds, step_s >= 1 ? 0 : step_s >= 0.1 ? 1 : 2);
  const auto s = static_cast<int64_t>(std::llround(seconds));
  return span_s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                       : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

// The least of 1, 2, 5 times a power of ten that is not below `least`; for long times, of what clocks count in.
double RoundStep(double least, bool is_time) {
  if (is_time && least > 5) {
    for (const double step : {10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 18000.0}) {
      if (step >= least) return step;
    }
  }
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

// Powers of ten; where there are fewer than three, their double and fivefold too.
std::vector<Tick> MakeLogTicks(const Axis& axis) {
  std::vector<Tick> ticks;
  const bool fill = axis.high / axis.low < 100;
  for (double power = std::pow(10.0, std::floor(std::log10(axis.low))); power <= axis.high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double value = factor * power;
      if ((factor > 1 && !fill) || value < axis.low * (1 - 1e-9) || value > axis.high * (1 + 1e-9)) continue;
      ticks.push_back({value, fmt::format("{:g}", value)});
    }
  }
  return ticks;
}

uint32_t ToPixel(Rgb color) {
  const auto byte = [](double share) { return static_cast<uint32_t>(std::lround(share * 255)); };
  return byte(color.red) << 16U | byte(color.green) << 8U | byte(color.blue);
}

// The cells [first, last) along one side that a pixel covers, at least one.
std::pair<int, int> Covered(int pixel, int num_pixels, int num_cells) {
  const auto first = static_cast<int>(static_cast<int64_t>(pixel) * num_cells / num_pixels);
  const auto last = static_cast<int>((static_cast<int64_t>(pixel) + 1) * num_cells / num_pixels);
  return {first, std::max(first + 1, last)};
}

}  // namespace

std::vector<Tick> MakeTicks(const Axis& axis, int most) {
  if (!(axis.high > axis.low)) return {};
  if (axis.is_log) return MakeLogTicks(axis);
  const double span = axis.high - axis.low;
  const double step = RoundStep(span / std::max(1, most), axis.is_time);
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 9);
  std::vector<Tick> ticks;
  const auto first = static_cast<int64_t>(std::ceil(axis.low / step - 1e-6));
  const auto last = static_cast<int64_t>(std::floor(axis.high / step + 1e-6));
  for (int64_t i = first; i <= last; ++i) {
    const double value = static_cast<double>(i) * step;
    ticks.push_back({value, axis.is_time ? TimeText(value, span, step) : fmt::format("{:.{}f}", value, decimals)});
  }
  return ticks;
}

PlotPanel::PlotPanel(PlotCanvas& canvas, const Box& box, Axis x, Axis y)
    : canvas_(canvas), box_(box), x_(std::move(x)), y_(std::move(y)) {
  EARSHOT_CHECK(x_.high > x_.low && y_.high > y_.low, "empty axis: {} to {}, {} to {}", x_.low, x_.high, y_.low,
                y_.high);
  EARSHOT_CHECK(!y_.is_log || y_.low > 0, "logarithmic axis from {}", y_.low);
}

double PlotPanel::X(double value) const { return box_.left + (value - x_.low) / (x_.high - x_.low) * box_.width; }

double PlotPanel::Y(double value) const {
  const double share =
      y_.is_log ? std::log(value / y_.low) / std::log(y_.high / y_.low) : (value - y_.low) / (y_.high - y_.low);
  return box_.bottom() - share * box_.height;
}

void PlotPanel::Grid() {
  const Stroke stroke = {.color = kFaint, .width = 0.4};
  for (const Tick& tick : MakeTicks(x_, static_cast<int>(box_.width / 45)))
    canvas_.Line(std::array<Point, 2>{{{X(tick.value), box_.top}, {X(tick.value), box_.bottom()}}}, stroke);
  for (const Tick& tick : MakeTicks(y_, static_cast<int>(box_.height / 20)))
    canvas_.Line(std::array<Point, 2>{{{box_.left, Y(tick.value)}, {box_.right(), Y(tick.value)}}}, stroke);
}

void PlotPanel::Axes() {
  const Stroke stroke = {.color = kInk, .width = 0.5};
  canvas_.Line(std::array<Point, 5>{{{box_.left, box_.top},
                                     {box_.right(), box_.top},
                                     {box_.right(), box_.bottom()},
                                     {box_.left, box_.bottom()},
                                     {box_.left, box_.top}}},
               stroke);
  for (const Tick& tick : MakeTicks(x_, static_cast<int>(box_.width / 45))) {
    const double x = X(tick.value);
    canvas_.Line(std::array<Point, 2>{{{x, box_.bottom()}, {x, box_.bottom() + kTickSize}}}, stroke);
    TextStyle style = kNumberStyle;
    style.align = TextAlign::kCenter;
    if (x_.numbers) canvas_.Text(x, box_.bottom() + kTickSize + 5.5, tick.text, style);
  }
  double widest = 0;
  for (const Tick& tick : MakeTicks(y_, static_cast<int>(box_.height / 20))) {
    const double y = Y(tick.value);
    canvas_.Line(std::array<Point, 2>{{{box_.left - kTickSize, y}, {box_.left, y}}}, stroke);
    if (!y_.numbers) continue;
    TextStyle style = kNumberStyle;
    style.align = TextAlign::kRight;
    canvas_.Text(box_.left - kTickSize - 2, y, tick.text, style);
    widest = std::max(widest, canvas_.TextWidth(tick.text, style));
  }
  const TextStyle label = {.size = 8, .align = TextAlign::kCenter};
  if (!x_.label.empty())
    canvas_.Text(box_.left + box_.width / 2, box_.bottom() + (x_.numbers ? 22 : 10), x_.label, label);
  TextStyle upwards = label;
  upwards.upwards = true;
  // At least where two digits would put it, so that the labels of stacked panels stand in line.
  if (!y_.label.empty())
    canvas_.Text(box_.left - kTickSize - 11 - std::max(widest, 15.0), box_.top + box_.height / 2, y_.label, upwards);
}

void PlotPanel::Line(std::span<const Point> points, const Stroke& stroke) {
  canvas_.Clip(box_);
  std::vector<Point> run;
  const auto draw = [&] {
    if (run.size() > 1) canvas_.Line(Thin(run), stroke);
    run.clear();
  };
  for (const Point& point : points) {
    const Point place = {X(point.x), Y(point.y)};
    if (std::isfinite(place.x) && std::isfinite(place.y)) {
      run.push_back(place);
    } else {
      draw();
    }
  }
  draw();
  canvas_.Unclip();
}

// points: on the canvas. Of those in one half point of width, the first, least, greatest and last.
std::vector<Point> PlotPanel::Thin(std::span<const Point> points) const {
  if (static_cast<double>(points.size()) < 8 * box_.width) return {points.begin(), points.end()};
  std::vector<Point> kept;
  for (size_t begin = 0; begin < points.size();) {
    const double column = std::floor(points[begin].x * 2);
    size_t end = begin, least = begin, greatest = begin;
    for (; end < points.size() && std::floor(points[end].x * 2) == column; ++end) {
      if (points[end].y < points[least].y) least = end;
      if (points[end].y > points[greatest].y) greatest = end;
    }
    std::array<size_t, 4> picks = {begin, std::min(least, greatest), std::max(least, greatest), end - 1};
    for (size_t i = 0; i < picks.size(); ++i) {
      if (i == 0 || picks[i] != picks[i - 1]) kept.push_back(points[picks[i]]);
    }
    begin = end;
  }
  return kept;
}

void PlotPanel::FillTo(double base, std::span<const Point> points, Rgb color, double opacity) {
  if (points.empty()) return;
  std::vector<Point> places;
  for (const Point& point : points) places.push_back({X(point.x), Y(point.y)});
  places = Thin(places);
  places.insert(places.begin(), {places.front().x, Y(base)});
  places.push_back({places.back().x, Y(base)});
  canvas_.Clip(box_);
  canvas_.Area(places, color, opacity);
  canvas_.Unclip();
}

void PlotPanel::Span(double low, double high, Rgb color, double opacity) {
  const double left = std::max(box_.left, X(low)), right = std::min(box_.right(), X(high));
  if (right > left) canvas_.Rectangle({left, box_.top, right - left, box_.height}, color, opacity);
}

void PlotPanel::Envelope(std::span<const float> samples, double x_low, double x_high, Rgb color) {
  if (samples.empty()) return;
  const double left = X(x_low), width = X(x_high) - left;
  // Two columns a point; of few samples, one column each.
  const auto columns = static_cast<int>(std::clamp<double>(width * 2, 1, static_cast<double>(samples.size())));
  constexpr double kLeast = 0.15;  // half the height of silence, in points, so that it stays visible
  std::vector<Point> upper, lower;
  for (int column = 0; column < columns; ++column) {
    const auto begin = static_cast<size_t>(static_cast<double>(samples.size()) * column / columns);
    const auto end =
        std::max(begin + 1, static_cast<size_t>(static_cast<double>(samples.size()) * (column + 1) / columns));
    const auto [least, greatest] = std::minmax_element(samples.begin() + static_cast<ptrdiff_t>(begin),
                                                       samples.begin() + static_cast<ptrdiff_t>(end));
    const double x = left + width * (column + 0.5) / columns;
    upper.push_back({x, Y(*greatest) - kLeast});
    lower.push_back({x, Y(*least) + kLeast});
  }
  upper.insert(upper.end(), lower.rbegin(), lower.rend());
  canvas_.Clip(box_);
  canvas_.Area(upper, color);
  canvas_.Unclip();
}

void PlotPanel::Draw(const HeatMap& map) {
  if (map.rows <= 0 || map.columns <= 0) return;
  EARSHOT_CHECK(map.values.size() == static_cast<size_t>(map.rows) * static_cast<size_t>(map.columns),
                "heat map of {} x {}: {} values", map.rows, map.columns, map.values.size());
  const Box place = {X(map.x_low), Y(map.y_high), X(map.x_high) - X(map.x_low), Y(map.y_low) - Y(map.y_high)};
  // As many pixels as the PNG has: viewers of SVG differ in how they scale, so nothing is left to them.
  const int width = std::max(1, static_cast<int>(std::lround(place.width * PlotCanvas::PixelsPerPoint())));
  const int height = std::max(1, static_cast<int>(std::lround(place.height * PlotCanvas::PixelsPerPoint())));
  std::array<uint32_t, 256> colors;
  for (size_t i = 0; i < colors.size(); ++i) colors[i] = ToPixel(Viridis(static_cast<double>(i) / 255));
  const float scale = map.high > map.low ? 255 / (map.high - map.low) : 0;
  std::vector<uint32_t> pixels(static_cast<size_t>(width) * static_cast<size_t>(height));
  for (int y = 0; y < height; ++y) {
    const auto [row_begin, row_end] = Covered(height - 1 - y, height, map.rows);
    for (int x = 0; x < width; ++x) {
      const auto [column_begin, column_end] = Covered(x, width, map.columns);
      float sum = 0, greatest = -INFINITY;
      for (int row = row_begin; row < row_end; ++row) {
        const float* cells = &map.values[static_cast<size_t>(row) * static_cast<size_t>(map.columns)];
        for (int column = column_begin; column < column_end; ++column) {
          sum += cells[column];
          greatest = std::max(greatest, cells[column]);
        }
      }
      const auto count = static_cast<float>((row_end - row_begin) * (column_end - column_begin));
      const float value = map.pool == Pool::kMean ? sum / count : greatest;
      const float index = (value - map.low) * scale;
      // A NaN gets the first colour.
      pixels[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)] =
          colors[index > 0 ? static_cast<size_t>(std::min(index, 255.0f)) : 0];
    }
  }
  canvas_.Clip(box_);
  canvas_.Image(place, pixels, width, height);
  canvas_.Unclip();
}

void PlotPanel::ColorBar(const HeatMap& map, const std::string& label) {
  const Box bar = {box_.right() + 8, box_.top, 7, box_.height};
  std::vector<uint32_t> pixels(256);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = ToPixel(Viridis(1 - static_cast<double>(i) / 255));
  canvas_.Image(bar, pixels, 1, static_cast<int>(pixels.size()));
  const Axis axis = {.low = map.low, .high = map.high};
  double widest = 0;
  for (const Tick& tick : MakeTicks(axis, static_cast<int>(box_.height / 25))) {
    const double y = bar.bottom() - (tick.value - axis.low) / (axis.high - axis.low) * bar.height;
    canvas_.Line(std::array<Point, 2>{{{bar.right(), y}, {bar.right() + 2, y}}}, {.width = 0.5});
    canvas_.Text(bar.right() + 4, y, tick.text, kNumberStyle);
    widest = std::max(widest, canvas_.TextWidth(tick.text, kNumberStyle));
  }
  canvas_.Text(bar.right() + 11 + widest, bar.top + bar.height / 2, label,
               {.size = 7, .align = TextAlign::kCenter, .upwards = true});
}

Rgb Viridis(double share) {
  // The published table at every eighth of its length, of 255; straight between.
  static constexpr double kTable[9][3] = {{68, 1, 84},    {71, 44, 122}, {59, 81, 139},  {44, 113, 142}, {33, 144, 141},
                                          {39, 173, 129}, {92, 200, 99}, {170, 220, 50}, {253, 231, 37}};
  const double place = std::clamp(share, 0.0, 1.0) * 8;
  const int left = std::min(7, static_cast<int>(place));
  const double weight = place - left;
  const auto mix = [&](int channel) {
    return ((1 - weight) * kTable[left][channel] + weight * kTable[left + 1][channel]) / 255;
  };
  return {mix(0), mix(1), mix(2)};
}

}  // namespace earshot
