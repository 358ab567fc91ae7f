#include "tools/cli/live_view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/text/utf8.h"

namespace earshot {
namespace {

// As much of a terminal as the view needs: lines, a cursor, and what stands where. Nothing may be wider than it.
class Screen {
 public:
  explicit Screen(int width) : width_(width) {}

  void Write(const std::string& bytes) {
    const std::u32string text = DecodeUtf8(bytes);
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == U'\033') {
        ASSERT_EQ(text[i + 1], U'[');
        std::string parameter;
        for (i += 2; !(text[i] >= U'@' && text[i] <= U'~'); ++i) parameter += static_cast<char>(text[i]);
        Escape(parameter, static_cast<char>(text[i]));
      } else if (text[i] == U'\n') {  // as the terminal driver hands it on
        ++row_;
        column_ = 0;
      } else if (text[i] == U'\r') {
        column_ = 0;
      } else {
        Put(text[i]);
      }
    }
  }

  // Its lines without blanks at their ends, the empty ones at its end left out.
  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const std::u32string& row : rows_) {
      std::string line;
      for (const char32_t c : row) {
        if (c != kSecondHalf) AppendUtf8(c, line);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      lines.push_back(line);
    }
    while (!lines.empty() && lines.back().empty()) lines.pop_back();
    return lines;
  }
  bool cursor_visible() const { return cursor_visible_; }
  void set_width(int width) { width_ = width; }

 private:
  static constexpr char32_t kSecondHalf = 0x110000;

  std::u32string& Row() {
    if (rows_.size() <= row_) rows_.resize(row_ + 1);
    return rows_[row_];
  }
  void Put(char32_t c) {
    std::u32string& row = Row();
    const size_t cells = static_cast<size_t>(CellsOf(c));
    ASSERT_GT(cells, 0u) << "the tests write no combining characters";
    ASSERT_LT(column_ + cells, static_cast<size_t>(width_) + 1);
    row.resize(std::max(row.size(), column_ + cells), U' ');
    row[column_] = c;
    if (cells == 2) row[column_ + 1] = kSecondHalf;
    column_ += cells;
  }
  void Escape(const std::string& parameter, char command) {
    if (command == 'A') {
      ASSERT_GE(row_, std::stoul(parameter)) << "above the screen";
      row_ -= std::stoul(parameter);
    } else if (command == 'K' || command == 'J') {
      Row().resize(std::min(Row().size(), column_));
      if (command == 'J') rows_.resize(row_ + 1);
    } else if (parameter == "?25") {
      cursor_visible_ = command == 'h';
    } else {
      ASSERT_EQ(command, 'm');
    }
  }

  int width_;
  std::vector<std::u32string> rows_;
  size_t row_ = 0, column_ = 0;
  bool cursor_visible_ = true;
};

std::vector<Word> Words(const std::vector<std::string>& texts, double start_s = 0) {
  std::vector<Word> words;
  for (const std::string& text : texts) {
    words.push_back({.text = text, .start_s = start_s, .end_s = start_s + 0.4, .confidence = 0.75f});
    start_s += 0.5;
  }
  return words;
}

Segment Final(const std::vector<std::string>& texts, double start_s = 0) {
  Segment segment = {.start_s = start_s, .end_s = start_s + 0.5 * static_cast<double>(texts.size())};
  segment.words = Words(texts, start_s);
  for (const std::string& text : texts) segment.text += (segment.text.empty() ? "" : " ") + text;
  return segment;
}

using Lines = std::vector<std::string>;

TEST(LiveViewTest, FinalsScrollByAndTheRestIsRedrawn) {
  LiveView view({.width = 60});
  Screen screen(60);
  screen.Write(view.Input({.captured_s = 1, .peak = 0.1f}));
  EXPECT_FALSE(screen.cursor_visible());
  EXPECT_EQ(screen.lines(), (Lines{"○  0:01  ▕█████████████▍      ▏  -20 dBFS  Ctrl-C ends"}));
  screen.Write(view.Update({.words = Words({"TWO", "NINE"}), .stable_words = 1, .received_s = 2, .recognized_s = 1.5}));
  EXPECT_EQ(screen.lines(), (Lines{"        TWO NINE", "○  0:01  ▕██████   ▏  -20 dBFS  latency 0.50 s  Ctrl-C ends"}));
  screen.Write(view.Update({.finals = {Final({"TWO", "NINE"}, 65)}, .words = Words({"EIGHT"}), .speech = true}));
  EXPECT_EQ(screen.lines(), (Lines{"   1:05 TWO NINE", "        EIGHT",
                                   "●  0:01  ▕██████   ▏  -20 dBFS  latency 0.50 s  Ctrl-C ends"}));
  screen.Write(view.Finishing());
  EXPECT_EQ(screen.lines().back(), "●  0:01  finishing  latency 0.50 s");
  screen.Write(view.Update({.finals = {Final({"EIGHT"}, 70)}, .finished = true}));
  screen.Write(view.Close());
  EXPECT_EQ(screen.lines(), (Lines{"   1:05 TWO NINE", "   1:10 EIGHT"}));
  EXPECT_TRUE(screen.cursor_visible());
  EXPECT_EQ(view.Close(), "");
}

TEST(LiveViewTest, SamePictureIsNotDrawnAgain) {
  LiveView view({});
  EXPECT_NE(view.Input({.captured_s = 1}), "");
  EXPECT_EQ(view.Input({.captured_s = 1.3}), "");
  EXPECT_EQ(view.Resize(80), "");
  EXPECT_NE(view.Input({.captured_s = 2}), "");
}

TEST(LiveViewTest, StableWordsAreDimOthersGreyFinalsNormal) {
  LiveView view({});
  const std::string partial = view.Update({.words = Words({"A", "B"}), .stable_words = 1});
  EXPECT_NE(partial.find("\033[2mA\033[0m \033[90mB\033[0m"), std::string::npos) << partial;
  const std::string final = view.Update({.finals = {Final({"A", "B"})}});
  EXPECT_NE(final.find("\033[0mA B\033[K"), std::string::npos) << final;
  LiveView plain({.color = false});
  EXPECT_EQ(plain.Update({.finals = {Final({"C"})}, .words = Words({"A"})}).find("m"), std::string::npos);
}

TEST(LiveViewTest, LongWordsWrapAndFewLinesOfPartialsShow) {
  LiveView view({.width = 30});
  Screen screen(30);
  Lines words;
  for (int i = 0; i < 40; ++i) words.push_back(i % 7 == 0 ? "三月" : "WORD" + std::to_string(i));
  screen.Write(view.Update({.words = Words(words)}));
  EXPECT_EQ(screen.lines().size(), 5u);
  EXPECT_EQ(screen.lines()[3], "        WORD39");
  screen.Write(view.Update({.finals = {Final(words)}}));
  screen.Write(view.Close());
  std::string text;
  for (const std::string& line : screen.lines()) text += line.substr(7);
  EXPECT_EQ(text, " " + Final(words).text);
}

TEST(LiveViewTest, EveryWidthHoldsThePicture) {
  for (int width = 1; width < 120; ++width) {
    SCOPED_TRACE(width);
    LiveView view({.width = width});
    Screen screen(std::max(width, 3));  // two cells of a wide character and the free one
    screen.Write(view.Input({.captured_s = 5000, .peak = 1, .gaps = 12, .lost_s = 3.14}));
    screen.Write(view.Update({.finals = {Final({"你好世界", "SEVENTEEN"})},
                              .words = Words({"INTERNATIONALIZATION", "三"}),
                              .received_s = 100,
                              .recognized_s = 1}));
    screen.Write(view.Note("recognition is 99 s behind"));
    screen.Write(view.Finishing());
    screen.Write(view.Close());
  }
}

TEST(LiveViewTest, ResizeErasesRowsThatTheTerminalBroke) {
  LiveView view({.width = 80});
  view.Update({.words = Words({"ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN"})});
  // 41 cells of words and the status line stand on two rows each of 40.
  EXPECT_TRUE(view.Resize(40).starts_with("\r\033[3A"));
  // Wider again, nothing was broken.
  EXPECT_TRUE(view.Resize(80).starts_with("\r\033[2A"));
}

TEST(LiveViewTest, GapsAndNotesAreSeen) {
  LiveView view({.width = 80});
  Screen screen(80);
  screen.Write(view.Input({.captured_s = 3, .gaps = 1}));
  EXPECT_NE(screen.lines().back().find("1 gap"), std::string::npos);
  screen.Write(view.Input({.captured_s = 3, .gaps = 2, .lost_s = 0.25}));
  EXPECT_NE(screen.lines().back().find("silent    2 gaps, 0.2 s lost"), std::string::npos) << screen.lines().back();
  screen.Write(view.Note("the disk is full"));
  EXPECT_EQ(screen.lines().front(), "the disk is full");
  EXPECT_EQ(screen.lines().size(), 2u);
}

TEST(LiveViewTest, WordsThatNeverBecameFinalStay) {
  LiveView view({.width = 80});
  Screen screen(80);
  screen.Write(view.Update({.words = Words({"HALF", "A"})}));
  screen.Write(view.Close());
  EXPECT_EQ(screen.lines(), Lines{"        HALF A"});
}

TEST(LiveViewTest, LinesAreFinalsAlone) {
  LiveView view({.form = LiveForm::kLines});
  EXPECT_EQ(view.Input({.captured_s = 1, .peak = 1}), "");
  EXPECT_EQ(view.Update({.words = Words({"A"})}), "");
  EXPECT_EQ(view.Update({.finals = {Final({"A", "B"}), Final({"C\nD"})}}), "A B\nC D\n");
  EXPECT_EQ(view.Note("x") + view.Resize(5) + view.Finishing() + view.Close(), "");
}

TEST(LiveViewTest, LinesWithPartialsSayWhichTheyAre) {
  LiveView view({.form = LiveForm::kLines, .partials = true});
  EXPECT_EQ(view.Update({.words = Words({"A"})}), "partial\tA\n");
  EXPECT_EQ(view.Update({.words = Words({"A"}), .stable_words = 1}), "");
  EXPECT_EQ(view.Update({.finals = {Final({"A"})}, .words = Words({"B"})}), "final\tA\npartial\tB\n");
  EXPECT_EQ(view.Update({}), "partial\t\n");
  EXPECT_EQ(view.Update({.words = Words({"C"})}), "partial\tC\n");
  EXPECT_EQ(view.Update({.finals = {Final({"C"})}}), "final\tC\n");
}

TEST(LiveViewTest, JsonHasWordsWithTimes) {
  LiveView view({.form = LiveForm::kJson, .partials = true});
  const auto partial = nlohmann::json::parse(view.Update({.words = Words({"A", "\xFF"}, 1.23456), .stable_words = 1}));
  EXPECT_EQ(partial["type"], "partial");
  EXPECT_EQ(partial["stable_words"], 1);
  EXPECT_EQ(partial["text"], "A \uFFFD");
  EXPECT_EQ(partial["start"], 1.235);
  EXPECT_EQ(partial["words"].size(), 2u);
  const std::string line = view.Update({.finals = {Final({"A"}, 2)}});
  EXPECT_EQ(line,
            "{\"type\":\"final\",\"start\":2.0,\"end\":2.5,\"text\":\"A\",\"words\":[{\"word\":\"A\",\"start\":2.0,"
            "\"end\":2.4,\"confidence\":0.75}]}\n");
  LiveView finals({.form = LiveForm::kJson});
  EXPECT_EQ(finals.Update({.words = Words({"A"})}), "");
}

TEST(LiveViewTest, Decibels) {
  EXPECT_DOUBLE_EQ(DecibelsOfFullScale(1), 0);
  EXPECT_NEAR(DecibelsOfFullScale(0.1f), -20, 1e-6);
  EXPECT_DOUBLE_EQ(DecibelsOfFullScale(0), -100);
}

}  // namespace
}  // namespace earshot
