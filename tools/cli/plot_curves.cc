#include "tools/cli/plot_curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "src/base/error.h"
#include "tools/cli/plot_canvas.h"
#include "tools/cli/plot_panel.h"

namespace earshot {
namespace {

constexpr double kWidth = 440, kHeight = 270;
constexpr Box kChart = {58, 30, 366, 200};

// M. Okabe and K. Ito (2008): eight colours that colour-blind readers can tell apart; without the yellow,
// which is too light for a line on paper.
constexpr Rgb kColors[] = {{0, 0.447, 0.698}, {0.835, 0.369, 0},     {0, 0.620, 0.451}, {0.8, 0.475, 0.655},
                           {0.902, 0.624, 0}, {0.337, 0.706, 0.914}, {0, 0, 0}};

Rgb ColorOf(size_t curve) { return kColors[curve % std::size(kColors)]; }

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// Room above and below, and no axis of no length.
Axis AxisOf(const Extent& extent, const std::string& label, bool is_log, double margin) {
  Axis axis = {.low = extent.low, .high = extent.high, .label = label, .is_log = is_log};
  if (is_log) {
    const double room = std::max(1.05, std::pow(extent.high / extent.low, margin));
    axis.low /= room;
    axis.high *= room;
    return axis;
  }
  const double room = extent.high > extent.low ? margin * (extent.high - extent.low) : margin > 0 ? 0.5 : 0;
  // A curve of what cannot be negative does not get an axis that is.
  axis.low = extent.low >= 0 ? std::max(0.0, extent.low - room) : extent.low - room;
  axis.high += room;
  if (!(axis.high > axis.low)) axis.high = axis.low + 1;
  return axis;
}

// In the upper right corner, where training curves that fall leave room.
void DrawLegend(PlotCanvas& canvas, const std::vector<Curve>& curves) {
  constexpr double kLine = 12, kSample = 16;
  const TextStyle style = {.size = 8};
  double widest = 0;
  for (const Curve& curve : curves) widest = std::max(widest, canvas.TextWidth(curve.name, style));
  const Box box = {kChart.right() - widest - kSample - 18, kChart.top + 6, widest + kSample + 12,
                   kLine * static_cast<double>(curves.size()) + 4};
  canvas.Rectangle(box, kPaper, 0.85);
  for (size_t i = 0; i < curves.size(); ++i) {
    const double y = box.top + 2 + kLine * (static_cast<double>(i) + 0.5);
    canvas.Line(std::array<Point, 2>{{{box.left + 4, y}, {box.left + 4 + kSample, y}}}, {ColorOf(i), 1.4});
    canvas.Text(box.left + kSample + 8, y, curves[i].name, style);
  }
}

}  // namespace

void DrawCurves(const CurvesOptions& options, const std::vector<Curve>& curves, const std::string& path) {
  Extent x, y;
  std::vector<std::vector<Point>> lines;
  for (const Curve& curve : curves) {
    EARSHOT_CHECK(curve.x.size() == curve.y.size(), "{}: {} x, {} y", curve.name, curve.x.size(), curve.y.size());
    std::vector<Point>& line = lines.emplace_back();
    for (size_t i = 0; i < curve.x.size(); ++i) {
      const bool seen = std::isfinite(curve.y[i]) && (!options.log_y || curve.y[i] > 0);
      line.push_back({curve.x[i], seen ? curve.y[i] : std::numeric_limits<double>::quiet_NaN()});
      if (!seen) continue;
      x.Add(curve.x[i]);
      y.Add(curve.y[i]);
    }
  }
  if (!(x.low <= x.high)) Throw("{}: no curve has a point, so there is nothing to draw", path);
  PlotCanvas canvas(path, kWidth, kHeight);
  PlotPanel panel(canvas, kChart, AxisOf(x, options.x_label, false, 0),
                  AxisOf(y, options.y_label, options.log_y, 0.06));
  canvas.Text(kChart.left, 15, options.title, {.size = 10, .bold = true});
  panel.Grid();
  for (size_t i = 0; i < lines.size(); ++i) panel.Line(lines[i], {ColorOf(i), 1.2});
  panel.Axes();
  if (curves.size() > 1 || !curves.front().name.empty()) DrawLegend(canvas, curves);
  canvas.Finish();
}

}  // namespace earshot
