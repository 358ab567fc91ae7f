// One chart on a canvas: a box with axes, in which lines, areas and heat maps are drawn in units of the data.
//
//   PlotPanel panel(canvas, {60, 30, 400, 120}, {.low = 0, .high = 2.5, .label = "time (s)", .is_time = true},
//                   {.low = 0, .high = 1, .label = "gate"});
//   panel.Grid();
//   panel.Line(points, {.color = kInk});
//   panel.Axes();   // last, over what was drawn
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tools/cli/plot_canvas.h"

namespace earshot {

struct Axis {
  double low = 0, high = 1;
  // With its unit. Empty: none.
  std::string label{};
  // Seconds; from two minutes on, ticks read minutes:seconds.
  bool is_time = false;
  // Powers of ten as ticks; low must be positive.
  bool is_log = false;
  // false: the ticks have no numbers, as where a panel below shows them.
  bool numbers = true;
};

struct Tick {
  double value;
  std::string text;
};

// At most about `most` ticks at round values within the axis.
std::vector<Tick> MakeTicks(const Axis& axis, int most);

// What becomes of the cells that fall into one pixel.
enum class Pool { kMean, kMax };

struct HeatMap {
  // (rows, columns), row after row; row 0 is the lowest of the chart, column 0 its left.
  std::span<const float> values;
  int rows = 0, columns = 0;
  // The extent of the columns on the x axis and of the rows on the y axis.
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;
  // The values that get the first and the last colour; what is beyond gets the same.
  float low = 0, high = 1;
  Pool pool = Pool::kMean;
};

class PlotPanel {
 public:
  // The canvas must outlive the panel. box: without ticks and labels, which lie to its left and below it.
  PlotPanel(PlotCanvas& canvas, const Box& box, Axis x, Axis y);

  // Faint lines at the ticks.
  void Grid();
  // The frame, ticks, numbers and labels.
  void Axes();

  // Points in the order of x. A y that is not finite interrupts the line. Many more points than the
  // panel has columns are drawn as their extremes in each.
  void Line(std::span<const Point> points, const Stroke& stroke);
  // Between y = base and the points.
  void FillTo(double base, std::span<const Point> points, Rgb color, double opacity = 1);
  // x from low to high over the full height.
  void Span(double low, double high, Rgb color, double opacity = 1);
  // Samples spread over x_low to x_high: from the least to the greatest in each column.
  void Envelope(std::span<const float> samples, double x_low, double x_high, Rgb color);
  void Draw(const HeatMap& map);
  // A bar of the heat map's colours right of the box, with ticks and a label.
  void ColorBar(const HeatMap& map, const std::string& label);

  double X(double value) const;
  double Y(double value) const;
  const Box& box() const { return box_; }

 private:
  std::vector<Point> Thin(std::span<const Point> points) const;

  PlotCanvas& canvas_;
  Box box_;
  Axis x_, y_;
};

// Viridis (S. van der Walt and N. Smith, matplotlib 2015, CC0): even steps in lightness, so that it holds in
// grey print and for colour-blind readers. share: in [0, 1].
Rgb Viridis(double share);

}  // namespace earshot
