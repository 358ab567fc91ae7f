#include "tools/cli/plot_canvas.h"

#include <cairo-svg.h>
#include <cairo.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <numbers>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {
namespace {

constexpr double kPixelsPerPoint = 200.0 / 72.0;

cairo_status_t Append(void* closure, const unsigned char* data, unsigned int length) {
  static_cast<std::string*>(closure)->append(reinterpret_cast<const char*>(data), length);
  return CAIRO_STATUS_SUCCESS;
}

}  // namespace

struct PlotCanvas::Cairo {
  std::string bytes;  // of the SVG; cairo writes here until the surface is finished
  bool is_svg = false;
  cairo_surface_t* surface = nullptr;
  cairo_t* context = nullptr;

  ~Cairo() {
    cairo_destroy(context);
    cairo_surface_destroy(surface);
  }
  void SetColor(Rgb color, double opacity = 1) {
    cairo_set_source_rgba(context, color.red, color.green, color.blue, opacity);
  }
  void SetFont(const TextStyle& style) {
    cairo_select_font_face(context, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(context, style.size);
  }
  void Path(std::span<const Point> points) {
    cairo_new_path(context);
    for (const Point& point : points) cairo_line_to(context, point.x, point.y);
  }
};

PlotCanvas::PlotCanvas(const std::string& path, double width, double height)
    : path_(path), cairo_(std::make_unique<Cairo>()) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending != ".svg" && ending != ".png")
    Throw("{}: a plot ends in .svg or .png, found '{}'; the ending chooses the format", path, ending);
  cairo_->is_svg = ending == ".svg";
  if (cairo_->is_svg) {
    cairo_->surface = cairo_svg_surface_create_for_stream(Append, &cairo_->bytes, width, height);
  } else {
    cairo_->surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(std::ceil(width * kPixelsPerPoint)),
                                   static_cast<int>(std::ceil(height * kPixelsPerPoint)));
  }
  cairo_->context = cairo_create(cairo_->surface);
  if (!cairo_->is_svg) cairo_scale(cairo_->context, kPixelsPerPoint, kPixelsPerPoint);
  // Without hinting, text is as wide on the screen as in print, so both come out alike.
  cairo_font_options_t* options = cairo_font_options_create();
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  cairo_set_font_options(cairo_->context, options);
  cairo_font_options_destroy(options);
  cairo_set_line_join(cairo_->context, CAIRO_LINE_JOIN_ROUND);
  cairo_->SetColor(kPaper);
  cairo_paint(cairo_->context);
}

PlotCanvas::~PlotCanvas() = default;

void PlotCanvas::Text(double x, double y, const std::string& text, const TextStyle& style) {
  cairo_->SetFont(style);
  cairo_->SetColor(style.color);
  const double width = TextWidth(text, style);
  const double back = style.align == TextAlign::kLeft ? 0 : style.align == TextAlign::kCenter ? width / 2 : width;
  // Capitals of DejaVu are 0.73 em high; half of that below the middle is the baseline.
  const double baseline = 0.365 * style.size;
  cairo_save(cairo_->context);
  cairo_translate(cairo_->context, x, y);
  if (style.upwards) cairo_rotate(cairo_->context, -std::numbers::pi / 2);
  cairo_move_to(cairo_->context, -back, baseline);
  cairo_show_text(cairo_->context, text.c_str());
  cairo_restore(cairo_->context);
}

double PlotCanvas::TextWidth(const std::string& text, const TextStyle& style) const {
  cairo_->SetFont(style);
  cairo_text_extents_t extents;
  cairo_text_extents(cairo_->context, text.c_str(), &extents);
  return extents.x_advance;
}

void PlotCanvas::Line(std::span<const Point> points, const Stroke& stroke) {
  cairo_->Path(points);
  cairo_->SetColor(stroke.color);
  cairo_set_line_width(cairo_->context, stroke.width);
  cairo_stroke(cairo_->context);
}

void PlotCanvas::Area(std::span<const Point> points, Rgb color, double opacity) {
  cairo_->Path(points);
  cairo_->SetColor(color, opacity);
  cairo_fill(cairo_->context);
}

void PlotCanvas::Rectangle(const Box& box, Rgb color, double opacity) {
  cairo_rectangle(cairo_->context, box.left, box.top, box.width, box.height);
  cairo_->SetColor(color, opacity);
  cairo_fill(cairo_->context);
}

void PlotCanvas::Image(const Box& box, std::span<const uint32_t> pixels, int width, int height) {
  EARSHOT_CHECK(width > 0 && height > 0 && pixels.size() == static_cast<size_t>(width) * static_cast<size_t>(height),
                "{} pixels for {} x {}", pixels.size(), width, height);
  cairo_surface_t* image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
  cairo_surface_flush(image);
  unsigned char* rows = cairo_image_surface_get_data(image);
  const int stride = cairo_image_surface_get_stride(image);
  for (int y = 0; rows != nullptr && y < height; ++y) {
    std::memcpy(rows + static_cast<ptrdiff_t>(y) * stride, &pixels[static_cast<size_t>(y) * static_cast<size_t>(width)],
                static_cast<size_t>(width) * sizeof(uint32_t));
  }
  cairo_surface_mark_dirty(image);
  cairo_save(cairo_->context);
  cairo_rectangle(cairo_->context, box.left, box.top, box.width, box.height);
  cairo_clip(cairo_->context);
  cairo_translate(cairo_->context, box.left, box.top);
  cairo_scale(cairo_->context, box.width / width, box.height / height);
  cairo_set_source_surface(cairo_->context, image, 0, 0);
  // Cells keep their edges, and the outermost do not fade into the paper.
  cairo_pattern_set_filter(cairo_get_source(cairo_->context), CAIRO_FILTER_NEAREST);
  cairo_paint(cairo_->context);
  cairo_restore(cairo_->context);
  cairo_surface_destroy(image);
}

void PlotCanvas::Clip(const Box& box) {
  cairo_save(cairo_->context);
  cairo_rectangle(cairo_->context, box.left, box.top, box.width, box.height);
  cairo_clip(cairo_->context);
}

void PlotCanvas::Unclip() { cairo_restore(cairo_->context); }

double PlotCanvas::PixelsPerPoint() { return kPixelsPerPoint; }

void PlotCanvas::Finish() {
  const auto check = [this](cairo_status_t status) {
    if (status != CAIRO_STATUS_SUCCESS) Throw("{}: cannot be drawn: {}", path_, cairo_status_to_string(status));
  };
  check(cairo_status(cairo_->context));
  if (cairo_->is_svg) {
    cairo_surface_finish(cairo_->surface);
    check(cairo_surface_status(cairo_->surface));
  } else {
    check(cairo_surface_write_to_png_stream(cairo_->surface, Append, &cairo_->bytes));
  }
  WriteFileAtomically(path_, cairo_->bytes);
}

}  // namespace earshot
