#include "tools/cli/live_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

namespace earshot {
namespace {

using Json = nlohmann::ordered_json;

// More words than these lines hold show their end only: the beginning is about to become final.
constexpr size_t kMaxPartialLines = 4;
constexpr double kMeterFloorDb = -60, kSilentDb = -100;
constexpr int kMinMeterCells = 6, kMaxMeterCells = 20;
// "  12:34 " before the words; a terminal narrower than this goes without.
constexpr int kTimeCells = 8, kMinWidthWithTimes = 30;
constexpr const char* kHideCursor = "\033[?25l";
constexpr const char* kShowCursor = "\033[?25h";

std::string Time(double seconds) {
  const int64_t s = std::llround(std::floor(std::max(seconds, 0.0)));
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

double ToMilliseconds(double seconds) { return std::round(seconds * 1000) / 1000; }

std::string TextOf(const std::vector<Word>& words) {
  std::string text;
  for (const Word& word : words) text += (text.empty() ? "" : " ") + word.text;
  return text;
}

// A line of JSON for words of one kind; stable_words below 0: it has none.
std::string JsonLine(const char* type, double start_s, double end_s, const std::string& text,
                     const std::vector<Word>& words, int64_t stable_words) {
  Json line = {{"type", type}, {"start", ToMilliseconds(start_s)}, {"end", ToMilliseconds(end_s)}, {"text", text}};
  if (stable_words >= 0) line["stable_words"] = stable_words;
  line["words"] = Json::array();
  for (const Word& word : words) {
    line["words"].push_back({{"word", word.text},
                             {"start", ToMilliseconds(word.start_s)},
                             {"end", ToMilliseconds(word.end_s)},
                             {"confidence", std::round(word.confidence * 1e4) / 1e4}});
  }
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A bar of so many cells, to an eighth of a cell.
std::string Meter(double db, int cells) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const double share = std::clamp(1 - db / kMeterFloorDb, 0.0, 1.0);
  const int eighths = static_cast<int>(std::lround(share * cells * 8));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kEighths[eighths % 8];
  bar += std::string(static_cast<size_t>(cells - (eighths + 7) / 8), ' ');
  return bar;
}

std::string_view MeterStyle(double db) {
  if (db > -1) return kRed;  // clipped, or about to be
  return db > -6 ? kYellow : kGreen;
}

}  // namespace

double DecibelsOfFullScale(float peak) { return peak > 1e-5f ? 20 * std::log10(static_cast<double>(peak)) : kSilentDb; }

LiveView::LiveView(const LiveViewOptions& options) : options_(options) {}

std::string LiveView::Update(const StreamUpdate& update) {
  if (options_.form != LiveForm::kTerminal) return Lines(update);
  words_ = update.words;
  stable_words_ = update.stable_words;
  speech_ = update.speech;
  if (update.received_s > 0) latency_s_ = std::max(0.0, update.received_s - update.recognized_s);
  std::vector<CellLine> above;
  for (const Segment& segment : update.finals) {
    std::vector<CellLine> lines = FinalLines(segment);
    above.insert(above.end(), std::make_move_iterator(lines.begin()), std::make_move_iterator(lines.end()));
  }
  return Redraw(above);
}

std::string LiveView::Input(const InputState& input) {
  input_ = input;
  return options_.form == LiveForm::kTerminal ? Redraw() : "";
}

std::string LiveView::Resize(int width) {
  if (options_.form != LiveForm::kTerminal || width == options_.width) return "";
  options_.width = width;
  // Where a line has become longer than the terminal is wide, it stands on several rows now.
  std::vector<CellLine> rows;
  for (const CellLine& line : drawn_)
    rows.resize(rows.size() + static_cast<size_t>(std::max(1, (line.cells + width - 1) / std::max(width, 1))));
  drawn_ = std::move(rows);
  return Redraw();
}

std::string LiveView::Note(const std::string& text) {
  if (options_.form != LiveForm::kTerminal) return "";
  return Redraw(WrapCells({{text, Style(kYellow)}}, options_.width - 1));
}

std::string LiveView::Finishing() {
  finishing_ = true;
  return options_.form == LiveForm::kTerminal ? Redraw() : "";
}

std::string LiveView::Close() {
  if (options_.form != LiveForm::kTerminal || drawn_.empty()) return "";
  std::vector<CellLine> rest = PartialLines();
  std::string bytes = "\r";
  if (drawn_.size() > 1) bytes += fmt::format("\033[{}A", drawn_.size() - 1);
  for (const CellLine& line : rest) bytes += line.bytes + "\033[K\n";
  drawn_.clear();
  words_.clear();
  return bytes + "\033[J" + kShowCursor;
}

std::string LiveView::Lines(const StreamUpdate& update) {
  const bool json = options_.form == LiveForm::kJson;
  std::string out;
  for (const Segment& segment : update.finals) {
    if (json) {
      out += JsonLine("final", segment.start_s, segment.end_s, segment.text, segment.words, -1);
    } else {
      out += (options_.partials ? "final\t" : "") + Printable(segment.text) + "\n";
    }
  }
  const std::string text = TextOf(update.words);
  const bool changed = text != TextOf(words_) || (json && update.stable_words != stable_words_);
  // That no word is left is told only where no final took their place.
  const bool tells = changed && (!text.empty() || update.finals.empty());
  words_ = update.words;
  stable_words_ = update.stable_words;
  if (!options_.partials || !tells) return out;
  if (!json) return out + "partial\t" + Printable(text) + "\n";
  const double start_s = words_.empty() ? update.recognized_s : words_.front().start_s;
  const double end_s = words_.empty() ? update.recognized_s : words_.back().end_s;
  return out + JsonLine("partial", start_s, end_s, text, words_, static_cast<int64_t>(stable_words_));
}

// The lines above, which stay, and below them the picture of now, in place of the one before.
std::string LiveView::Redraw(const std::vector<CellLine>& above) {
  std::vector<CellLine> lines = PartialLines();
  lines.push_back(StatusLine());
  if (above.empty() && lines == drawn_) return "";
  std::string bytes = drawn_.empty() ? kHideCursor : "";
  bytes += "\r";
  if (drawn_.size() > 1) bytes += fmt::format("\033[{}A", drawn_.size() - 1);
  // Each line over the one that stood there, and then the rest of that: erased first, it would flicker.
  for (const CellLine& line : above) bytes += line.bytes + "\033[K\n";
  for (size_t i = 0; i < lines.size(); ++i) bytes += (i == 0 ? "" : "\n") + lines[i].bytes + "\033[K";
  drawn_ = std::move(lines);
  return bytes + "\033[J";
}

int LiveView::TimeCells() const { return options_.width < kMinWidthWithTimes ? 0 : kTimeCells; }

std::vector<CellLine> LiveView::FinalLines(const Segment& segment) const {
  const int indent = TimeCells();
  // The text, not its words: normalisation may have joined some.
  std::vector<StyledText> words;
  for (size_t begin = 0; begin < segment.text.size();) {
    const size_t end = std::min(segment.text.find(' ', begin), segment.text.size());
    if (end > begin) words.push_back({segment.text.substr(begin, end - begin)});
    begin = end + 1;
  }
  std::vector<CellLine> lines;
  for (const CellLine& text : WrapCells(words, options_.width - 1 - indent)) {
    CellLine line;
    if (indent > 0 && lines.empty()) {
      line.Append(fmt::format("{:>{}} ", Time(segment.start_s), indent - 1), Style(kDim));
    } else {
      line.Append(std::string(static_cast<size_t>(indent), ' '));
    }
    line.bytes += text.bytes;
    line.cells += text.cells;
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<CellLine> LiveView::PartialLines() const {
  const int indent = TimeCells();
  std::vector<StyledText> words;
  for (size_t i = 0; i < words_.size(); ++i) words.push_back({words_[i].text, Style(i < stable_words_ ? kDim : kGrey)});
  std::vector<CellLine> lines = WrapCells(words, options_.width - 1 - indent);
  if (lines.size() > kMaxPartialLines)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kMaxPartialLines));
  for (CellLine& line : lines) {
    line.bytes.insert(0, static_cast<size_t>(indent), ' ');
    line.cells += indent;
  }
  return lines;
}

// What stands behind the meter, in the order of its worth.
std::vector<StyledText> LiveView::StatusParts() const {
  std::vector<StyledText> parts;
  const double db = DecibelsOfFullScale(input_.peak);
  if (finishing_) {
    parts.push_back({"finishing"});
  } else if (db > kSilentDb) {
    parts.push_back({fmt::format("{:3} dBFS", std::lround(db))});
  } else {
    parts.push_back({"silent  ", Style(kDim)});
  }
  if (input_.gaps > 0) {
    const std::string lost = input_.lost_s >= 0.05 ? fmt::format(", {:.1f} s lost", input_.lost_s) : "";
    parts.push_back({fmt::format("{} gap{}{}", input_.gaps, input_.gaps == 1 ? "" : "s", lost), Style(kRed)});
  }
  if (latency_s_ >= 0) parts.push_back({fmt::format("latency {:.2f} s", latency_s_), Style(kDim)});
  if (!finishing_) parts.push_back({"Ctrl-C ends", Style(kGrey)});
  return parts;
}

CellLine LiveView::StatusLine() const {
  CellLine line;
  line.Append(speech_ ? "●" : "○", Style(speech_ ? kGreen : kGrey));
  line.Append(fmt::format(" {:>5}", Time(input_.captured_s)));
  int room = options_.width - 1 - line.cells;
  if (room < 0) return {};

  // The meter is small until the rest has its room, and takes of what is left.
  constexpr int kFrame = 4;
  const bool has_meter = !finishing_ && room >= kMinMeterCells + kFrame;
  if (has_meter) room -= kMinMeterCells + kFrame;
  const std::vector<StyledText> parts = StatusParts();
  size_t shown = 0;
  for (; shown < parts.size() && 2 + Cells(parts[shown].text) <= room; ++shown) room -= 2 + Cells(parts[shown].text);
  if (has_meter) {
    const double db = DecibelsOfFullScale(input_.peak);
    line.Append("  ▕");
    line.Append(Meter(db, std::min(kMinMeterCells + room, kMaxMeterCells)), Style(MeterStyle(db)));
    line.Append("▏");
  }
  for (size_t i = 0; i < shown; ++i) {
    line.Append("  ");
    line.Append(parts[i].text, parts[i].style);
  }
  return line;
}

}  // namespace earshot
