// Curves of training runs in one chart, for RESULTS.md.
//
//   DrawCurves({.title = "AN4", .x_label = "epoch", .y_label = "dev WER (%)"},
//              {{"hybrid", epochs, wer}, {"full attention", epochs, wer_full}}, "results/wer.svg");
#pragma once

#include <string>
#include <vector>

namespace earshot {

struct CurvesOptions {
  std::string title{}, x_label{}, y_label{};
  // A logarithmic y axis; values that are not positive are left out.
  bool log_y = false;
};

struct Curve {
  std::string name;
  // Of the same length; x rises. A y that is not finite interrupts the curve.
  std::vector<double> x, y;
};

// Throws Error when the path ends in neither .svg nor .png, cannot be written, or no curve has a point.
void DrawCurves(const CurvesOptions& options, const std::vector<Curve>& curves, const std::string& path);

}  // namespace earshot
