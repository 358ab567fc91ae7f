#include "tools/cli/plot_recording.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include "src/base/error.h"
#include "tools/cli/plot_canvas.h"
#include "tools/cli/plot_panel.h"

namespace earshot {
namespace {

// Of the sheet, in points: as wide as the text of a page in landscape.
constexpr double kWidth = 720, kLeft = 52, kRight = 64, kTop = 30, kBottom = 34, kGap = 12;
constexpr double kWaveHeight = 80, kWordsHeight = 11, kMapHeight = 110, kGateHeight = 58, kAttentionHeight = 230;
constexpr int kMostWordRows = 3;

constexpr Rgb kWaveColor = {0.16, 0.33, 0.52};
constexpr Rgb kWordColor = {0.95, 0.78, 0.45};
constexpr Rgb kGateColor = {0.80, 0.33, 0.10};

double Duration(const RecordingPlot& plot) {
  const double frames =
      static_cast<double>(std::max<size_t>(plot.gate.size(), static_cast<size_t>(plot.attention_frames)));
  return std::max({static_cast<double>(plot.samples.size()) / plot.sample_rate, plot.num_frames * plot.frame_shift_s,
                   frames * plot.encoder_frame_s});
}

// The value below which this share of the values lies; at most about 10^5 of them are looked at.
float Percentile(std::span<const float> values, double share) {
  std::vector<float> sample;
  const size_t step = values.size() / 100000 + 1;
  for (size_t i = 0; i < values.size(); i += step) {
    if (std::isfinite(values[i])) sample.push_back(values[i]);
  }
  if (sample.empty()) return 0;
  const auto nth = sample.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(sample.size() - 1));
  std::nth_element(sample.begin(), nth, sample.end());
  return *nth;
}

const TextStyle kWordStyle = {.size = 8, .align = TextAlign::kCenter};

struct PlacedWord {
  const Word* word;
  double x;
  int row;
};

// Each word in the first of the rows where it does not touch the one before; none, where they do not fit.
std::vector<PlacedWord> PlaceWords(const PlotCanvas& canvas, const std::vector<Word>& words, double duration_s) {
  constexpr double kSpace = 4;
  std::array<double, kMostWordRows> free_from{};
  std::vector<PlacedWord> placed;
  for (const Word& word : words) {
    const double half = canvas.TextWidth(word.text, kWordStyle) / 2;
    const double middle = kLeft + (word.start_s + word.end_s) / 2 / duration_s * (kWidth - kLeft - kRight);
    const double x = std::clamp(middle, std::min(half + 2, kWidth / 2), std::max(kWidth - half - 2, kWidth / 2));
    const auto row = std::find_if(free_from.begin(), free_from.end(), [&](double from) { return x - half >= from; });
    if (row == free_from.end()) return {};
    *row = x + half + kSpace;
    placed.push_back({&word, x, static_cast<int>(row - free_from.begin())});
  }
  return placed;
}

// Draws panel below panel.
class RecordingSheet {
 public:
  RecordingSheet(const RecordingPlot& plot, const std::string& path)
      : plot_(plot),
        duration_s_(Duration(plot)),
        // Words are measured on a sheet of their own, since the height of this one depends on them.
        words_(PlaceWords(PlotCanvas(path, kWidth, 1), plot.words, duration_s_)),
        canvas_(path, kWidth, Height()) {}

  void Draw() {
    canvas_.Text(kLeft, kTop / 2 + 1, plot_.title, {.size = 10, .bold = true});
    if (!plot_.samples.empty()) Wave();
    if (!plot_.spectrogram.empty()) Spectrogram();
    if (!plot_.gate.empty()) Gate();
    if (!plot_.attention.empty()) Attention();
    canvas_.Finish();
  }

 private:
  int NumPanels() const {
    return static_cast<int>(!plot_.samples.empty()) + static_cast<int>(!plot_.spectrogram.empty()) +
           static_cast<int>(!plot_.gate.empty()) + static_cast<int>(!plot_.attention.empty());
  }

  double WordsHeight() const {
    int rows = 0;
    for (const PlacedWord& word : words_) rows = std::max(rows, word.row + 1);
    return rows * kWordsHeight;
  }

  double Height() const {
    double height = kTop + kBottom + kGap * (NumPanels() - 1);
    if (!plot_.samples.empty()) height += kWaveHeight + WordsHeight();
    if (!plot_.spectrogram.empty()) height += kMapHeight;
    if (!plot_.gate.empty()) height += kGateHeight;
    if (!plot_.attention.empty()) height += kAttentionHeight;
    return height;
  }

  // As the numbers of a time axis read: see Axis::is_time.
  const char* TimeUnit() const { return duration_s_ < 120 ? "(s)" : duration_s_ < 3600 ? "(min:s)" : "(h:min:s)"; }

  // The next panel; the last one bears the time axis.
  PlotPanel Next(double height, Axis y) {
    const bool last = ++drawn_ == NumPanels();
    const Box box = {kLeft, top_, kWidth - kLeft - kRight, height};
    top_ += height + kGap;
    const std::string label = std::string("time ") + TimeUnit();
    return {canvas_,
            box,
            {.high = duration_s_, .label = last ? label : std::string(), .is_time = true, .numbers = last},
            std::move(y)};
  }

  void Wave() {
    const auto [least, greatest] = std::minmax_element(plot_.samples.begin(), plot_.samples.end());
    const double peak = std::max({1e-3, static_cast<double>(*greatest), -static_cast<double>(*least)}) * 1.05;
    PlotPanel panel = Next(kWaveHeight, {.low = -peak, .high = peak, .label = "amplitude"});
    for (const Word& word : plot_.words) panel.Span(word.start_s, word.end_s, kWordColor, 0.45);
    panel.Envelope(plot_.samples, 0, static_cast<double>(plot_.samples.size()) / plot_.sample_rate, kWaveColor);
    panel.Axes();
    for (const PlacedWord& word : words_)
      canvas_.Text(word.x, panel.box().bottom() + 10 + word.row * kWordsHeight, word.word->text, kWordStyle);
    top_ += WordsHeight();
  }

  void Spectrogram() {
    const auto size = static_cast<size_t>(plot_.num_frames) * static_cast<size_t>(plot_.dim);
    EARSHOT_CHECK(plot_.spectrogram.size() == size, "{} values for {} x {}", plot_.spectrogram.size(), plot_.num_frames,
                  plot_.dim);
    // A row of the map is a bin, so that the bins stand one above the other.
    std::vector<float> bins(size);
    for (int t = 0; t < plot_.num_frames; ++t) {
      for (int c = 0; c < plot_.dim; ++c)
        bins[static_cast<size_t>(c) * static_cast<size_t>(plot_.num_frames) + static_cast<size_t>(t)] =
            plot_.spectrogram[static_cast<size_t>(t) * static_cast<size_t>(plot_.dim) + static_cast<size_t>(c)];
    }
    const HeatMap map = {.values = bins,
                         .rows = plot_.dim,
                         .columns = plot_.num_frames,
                         .x_high = plot_.num_frames * plot_.frame_shift_s,
                         .y_high = static_cast<double>(plot_.dim),
                         // The quietest hundredth would take half of the colours: digital silence lies far below.
                         .low = Percentile(bins, 0.01),
                         .high = Percentile(bins, 0.999)};
    PlotPanel panel = Next(kMapHeight, {.high = static_cast<double>(plot_.dim), .label = "mel bin"});
    panel.Draw(map);
    panel.Axes();
    panel.ColorBar(map, "log energy");
  }

  void Gate() {
    // Each frame's value holds from its start to its end. Of a long recording, the mean of the frames that
    // share a point of the sheet is drawn; their extremes would fill the panel.
    const size_t frames = plot_.gate.size();
    const size_t together = frames / static_cast<size_t>(kWidth - kLeft - kRight) + 1;
    std::vector<Point> steps;
    for (size_t begin = 0; begin < frames; begin += together) {
      const size_t end = std::min(frames, begin + together);
      double mean = 0;
      for (size_t i = begin; i < end; ++i) mean += plot_.gate[i] / static_cast<double>(end - begin);
      steps.push_back({static_cast<double>(begin) * plot_.encoder_frame_s, mean});
      steps.push_back({static_cast<double>(end) * plot_.encoder_frame_s, mean});
    }
    PlotPanel panel = Next(kGateHeight, {.high = 1.05, .label = "gate"});
    panel.Grid();
    panel.FillTo(0, steps, kGateColor, 0.25);
    panel.Line(steps, {.color = kGateColor, .width = 0.8});
    panel.Axes();
  }

  void Attention() {
    const double end_s = plot_.attention_frames * plot_.encoder_frame_s;
    const HeatMap map = {.values = plot_.attention,
                         .rows = plot_.attention_frames,
                         .columns = plot_.attention_frames,
                         .x_high = end_s,
                         .y_high = end_s,
                         .low = 0,
                         // A few frames that look at themselves alone must not dim all others.
                         .high = std::max(1e-6f, Percentile(plot_.attention, 0.995)),
                         // The mean would wash a narrow band out of a long recording's map.
                         .pool = Pool::kMax};
    PlotPanel panel =
        Next(kAttentionHeight,
             {.high = duration_s_, .label = std::string("attending frame ") + TimeUnit(), .is_time = true});
    panel.Draw(map);
    panel.Axes();
    panel.ColorBar(map, fmt::format("attention weight, block {}", plot_.attention_layer));
  }

  const RecordingPlot& plot_;
  double duration_s_;
  std::vector<PlacedWord> words_;
  PlotCanvas canvas_;
  double top_ = kTop;
  int drawn_ = 0;
};

}  // namespace

void DrawRecording(const RecordingPlot& plot, const std::string& path) {
  EARSHOT_CHECK(plot.sample_rate > 0, "sample rate {}", plot.sample_rate);
  if (!(Duration(plot) > 0)) Throw("{}: the recording is empty, so there is nothing to draw", path);
  RecordingSheet(plot, path).Draw();
}

}  // namespace earshot
