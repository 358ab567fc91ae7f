// A progress bar on stderr: one line that is redrawn, at most ten times a second.
//
//   ProgressBar bar("epoch 3", total_steps);
//   bar.Update(step, "loss 1.23, lr 8.0e-4, 12 utt/s, 61 x real time");
//   bar.Finish();
//
// Where stderr is no terminal, it prints a plain line every 30 s instead, so logs stay readable.
// One bar at a time; the log clears the line before it writes (ProgressBar::Clear). Not thread-safe
// but for Clear().
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace earshot {

class ProgressBar {
 public:
  // total: in whatever unit Update counts; 0: unknown, only the count is shown.
  ProgressBar(std::string title, int64_t total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // note: what stands behind the bar.
  void Update(int64_t done, const std::string& note);
  // Draws the last state and ends the line.
  void Finish();

  // Takes a drawn bar off the terminal, so that a line can be written; it comes back with Update.
  static void Clear();
  // Draw nothing at all (--quiet, --no-progress).
  static void SetEnabled(bool enabled);

 private:
  void Draw();

  std::string title_;
  int64_t total_;
  int64_t done_ = 0;
  std::string note_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point next_draw_;
};

}  // namespace earshot
