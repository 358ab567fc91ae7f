// What `earshot mic` shows: words as they become known, and how loud it is. Events in, bytes for stdout out; nothing
// else goes in, not the clock nor the terminal, so that every picture can be tested.
//
//   LiveView view({.form = LiveForm::kTerminal, .width = 100});
//   Write(view.Input({.captured_s = 1.2, .peak = 0.1f}));
//   Write(view.Update(update));
//   Write(view.Close());
//
// On a terminal, final words scroll by in its normal colour, each segment with the time it began at. Below them stand
// the partial words, dim where they are stable and grey where they may change, and the status line, which are redrawn
// in place. As lines there are finals alone, or both, "final" or "partial" and a tab before each; as JSON an object a
// line:
//
//   {"type":"final","start":1.2,"end":2.4,"text":"...","words":[{"word":"...","start":1.2,"end":1.5,"confidence":0.9}]}
//   {"type":"partial","start":...,"end":...,"text":"...","stable_words":3,"words":[...]}
//
// Not thread-safe.
#pragma once

#include <string>
#include <vector>

#include "src/stream/recognition_service.h"
#include "tools/cli/cells.h"

namespace earshot {

enum class LiveForm { kTerminal, kLines, kJson };

struct LiveViewOptions {
  LiveForm form = LiveForm::kTerminal;
  // Partial words as lines and JSON too; a terminal always shows them.
  bool partials = false;
  // false: no colours on a terminal, as NO_COLOR asks.
  bool color = true;
  // Of the terminal, in cells.
  int width = 80;
};

// What has come in until now.
struct InputState {
  double captured_s = 0;
  // The loudest sample since the state before, 1 at full scale.
  float peak = 0;
  // Gaps in the recording, and how much of it is known to be lost.
  int64_t gaps = 0;
  double lost_s = 0;
};

class LiveView {
 public:
  explicit LiveView(const LiveViewOptions& options);

  // Each returns what is to be written; "" where the picture stays as it is.
  std::string Update(const StreamUpdate& update);
  std::string Input(const InputState& input);
  // The terminal has another width now. Its lines were broken anew by most terminals, which is reckoned with.
  std::string Resize(int width);
  // A warning, above the partial words. Terminal only: elsewhere "", since stdout is for words.
  std::string Note(const std::string& text);
  // Nothing more comes in; the last words are on their way.
  std::string Finishing();
  // Takes what is redrawn off the terminal. Words that never became final stay, in grey.
  std::string Close();

  // Undoes what a drawn view changed of the terminal, where no Close is possible (in a signal handler).
  static constexpr std::string_view kAbandon = "\r\033[J\033[?25h";

 private:
  std::string Lines(const StreamUpdate& update);
  std::string Redraw(const std::vector<CellLine>& above = {});
  std::vector<CellLine> FinalLines(const Segment& segment) const;
  std::vector<CellLine> PartialLines() const;
  std::vector<StyledText> StatusParts() const;
  CellLine StatusLine() const;
  std::string_view Style(std::string_view style) const { return options_.color ? style : std::string_view(); }
  int TimeCells() const;

  LiveViewOptions options_;
  InputState input_;
  // Of the last update.
  std::vector<Word> words_;
  size_t stable_words_ = 0;
  double latency_s_ = -1;  // below 0: not known yet
  bool speech_ = false;
  bool finishing_ = false;
  // What stands on the terminal, the cursor at its end.
  std::vector<CellLine> drawn_;
};

// 0 dBFS at full scale; -100 at most silent.
double DecibelsOfFullScale(float peak);

}  // namespace earshot
