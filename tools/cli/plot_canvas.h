// A sheet to draw on, as SVG or PNG by the file's ending, through cairo: one drawing code for both.
//
//   PlotCanvas canvas("plot.svg", 500, 300);
//   canvas.Line({{10, 10}, {490, 290}}, {.color = kInk});
//   canvas.Text(250, 20, "loss", {.size = 10, .align = TextAlign::kCenter});
//   canvas.Finish();   // without it, no file
//
// Everything is in points (1/72 inch) from the upper left corner; a PNG has 200 pixels an inch. Not
// thread-safe. Charts with axes are in plot_panel.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace earshot {

struct Rgb {
  double red = 0, green = 0, blue = 0;  // in [0, 1]
};
constexpr Rgb kInk = {0.13, 0.13, 0.15};
constexpr Rgb kFaint = {0.86, 0.86, 0.88};
constexpr Rgb kPaper = {1, 1, 1};

struct Point {
  double x = 0, y = 0;
};

struct Box {
  double left = 0, top = 0, width = 0, height = 0;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

enum class TextAlign { kLeft, kCenter, kRight };

struct TextStyle {
  double size = 8;
  TextAlign align = TextAlign::kLeft;
  bool bold = false;
  // Read from below, as labels of vertical axes are.
  bool upwards = false;
  Rgb color = kInk;
};

struct Stroke {
  Rgb color = kInk;
  double width = 0.6;
};

class PlotCanvas {
 public:
  // Throws Error when the path ends in neither .svg nor .png.
  PlotCanvas(const std::string& path, double width, double height);
  ~PlotCanvas();
  PlotCanvas(const PlotCanvas&) = delete;
  PlotCanvas& operator=(const PlotCanvas&) = delete;

  // (x, y): the middle of the text's height, at its left end, centre or right end by style.align.
  void Text(double x, double y, const std::string& text, const TextStyle& style);
  double TextWidth(const std::string& text, const TextStyle& style) const;
  void Line(std::span<const Point> points, const Stroke& stroke);
  // A filled polygon.
  void Area(std::span<const Point> points, Rgb color, double opacity = 1);
  void Rectangle(const Box& box, Rgb color, double opacity = 1);
  // pixels: (height, width), the upper row first, 0x00RRGGBB; stretched over the box.
  void Image(const Box& box, std::span<const uint32_t> pixels, int width, int height);
  // Nothing outside the box is drawn until Unclip.
  void Clip(const Box& box);
  void Unclip();

  // Pixels for each point that an image should have: what the PNG has.
  static double PixelsPerPoint();

  // Writes the file, whole or not at all. Throws Error when it cannot.
  void Finish();

 private:
  struct Cairo;
  std::string path_;
  std::unique_ptr<Cairo> cairo_;
};

}  // namespace earshot
