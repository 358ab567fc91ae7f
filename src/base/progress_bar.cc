#include "src/base/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>

namespace earshot {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<bool> g_enabled{true};
std::atomic<bool> g_drawn{false};  // a bar stands on the terminal's current line

bool IsTerminal() {
  static const bool is_terminal = isatty(STDERR_FILENO) == 1;
  return is_terminal;
}

size_t TerminalWidth() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string Duration(double seconds) {
  const int64_t s = std::llround(seconds);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

ProgressBar::ProgressBar(std::string title, int64_t total)
    : title_(std::move(title)), total_(total), start_(Clock::now()), next_draw_(start_) {
  if (!IsTerminal()) next_draw_ += std::chrono::seconds(30);
}

ProgressBar::~ProgressBar() { Clear(); }

void ProgressBar::Update(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  const auto now = Clock::now();
  if (now < next_draw_) return;
  next_draw_ = now + (IsTerminal() ? std::chrono::milliseconds(100) : std::chrono::milliseconds(30000));
  Draw();
}

void ProgressBar::Finish() {
  if (finished_) return;
  finished_ = true;
  Draw();
  if (g_drawn.exchange(false)) std::fputc('\n', stderr);
}

void ProgressBar::Clear() {
  if (g_drawn.exchange(false)) {
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
  }
}

void ProgressBar::SetEnabled(bool enabled) { g_enabled = enabled; }

void ProgressBar::Draw() {
  if (!g_enabled) return;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  std::string line;
  if (total_ > 0) {
    const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
    constexpr int kCells = 20;
    const int full = static_cast<int>(share * kCells);
    std::string cells;
    for (int i = 0; i < kCells; ++i) cells += i < full ? "━" : "╌";
    const double left = share > 0 ? elapsed / share - elapsed : 0;
    line = fmt::format("{} {} {:3.0f} % {}<{}", title_, cells, share * 100, Duration(elapsed), Duration(left));
  } else {
    line = fmt::format("{} {} {}", title_, done_, Duration(elapsed));
  }
  if (!note_.empty()) line += "  " + note_;
  if (!IsTerminal()) {
    fmt::print(stderr, "{}\n", line);
    return;
  }
  // Cut to the terminal's width, counted in characters, not bytes.
  size_t width = 0;
  size_t end = 0;
  const size_t most = TerminalWidth() - 1;
  while (end < line.size() && width < most) {
    ++end;
    while (end < line.size() && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) ++end;
    ++width;
  }
  fmt::print(stderr, "\r{}\033[K", line.substr(0, end));
  std::fflush(stderr);
  g_drawn = true;
}

}  // namespace earshot
