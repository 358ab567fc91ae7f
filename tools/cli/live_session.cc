#include "tools/cli/live_session.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "src/base/error.h"
#include "src/base/log.h"

namespace earshot {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
// Recognition that is so far behind does not keep up, and says so.
constexpr double kFarBehindS = 5;
constexpr int kInterruptedStatus = 130;

// --- Signals and the terminal ---------------------------------------------------------------------------------------

// For the signal handler: what it has to undo.
std::atomic<int> g_signals{0};
std::atomic<bool> g_view_drawn{false}, g_echo_off{false};
termios g_terminal;

void OnSignal(int) {
  if (++g_signals < 2) return;
  if (g_view_drawn) {
    [[maybe_unused]] const ssize_t n = write(STDOUT_FILENO, LiveView::kAbandon.data(), LiveView::kAbandon.size());
  }
  if (g_echo_off) tcsetattr(STDIN_FILENO, TCSANOW, &g_terminal);
  _exit(kInterruptedStatus);
}

class Signals {
 public:
  Signals() {
    g_signals = 0;
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < std::size(kWhich); ++i) {
      sigaction(kWhich[i], nullptr, &before_[i]);
      // nohup and shells that run it in the background have these ignored, and mean it.
      if (before_[i].sa_handler != SIG_IGN) sigaction(kWhich[i], &action, nullptr);
    }
  }
  ~Signals() {
    for (size_t i = 0; i < std::size(kWhich); ++i) sigaction(kWhich[i], &before_[i], nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  bool stop() const { return g_signals > 0; }

 private:
  static constexpr int kWhich[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction before_[std::size(kWhich)];
};

// What is typed would stand in the middle of the status line, "^C" too.
class EchoOff {
 public:
  explicit EchoOff(bool wanted) {
    // In the background a change of the terminal would stop the program.
    if (!wanted || tcgetpgrp(STDIN_FILENO) != getpgrp() || tcgetattr(STDIN_FILENO, &g_terminal) != 0) return;
    termios quiet = g_terminal;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    g_echo_off = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
  }
  ~EchoOff() {
    if (g_echo_off.exchange(false)) tcsetattr(STDIN_FILENO, TCSANOW, &g_terminal);
  }
  EchoOff(const EchoOff&) = delete;
  EchoOff& operator=(const EchoOff&) = delete;
};

int TerminalWidth() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// --- Events
// -----------------------------------------------------------------------------------------------------------

struct Warning {
  std::string text;
};
using Event = std::variant<StreamUpdate, InputState, Warning>;

// From the service's and the capture's threads to the one that draws.
class EventQueue {
 public:
  void Push(Event event) {
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    came_.notify_one();
  }
  // All that waits, after a tick at the latest.
  std::deque<Event> Pop() {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, kTick, [&] { return !events_.empty(); });
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<Event> events_;
};

// --- The session
// ------------------------------------------------------------------------------------------------------

class LiveSession {
 public:
  explicit LiveSession(const LiveSessionOptions& options)
      : options_(options),
        echo_off_(options.form == LiveForm::kTerminal),
        view_({.form = options.form,
               .partials = options.partials,
               .color = std::getenv("NO_COLOR") == nullptr,
               .width = TerminalWidth()}) {}

  ~LiveSession() { Close(); }

  void Run(RecognitionService& service, LiveSource& source) {
    while (!source.Start(static_cast<int>(kTick.count()))) {
      if (signals_.stop()) return;
    }
    // A listener's last call may end after the stream does.
    const auto events = std::make_shared<EventQueue>();
    const auto stream = service.OpenStream({.sample_rate = static_cast<double>(source.sample_rate())},
                                           [events](StreamUpdate update) { events->Push(std::move(update)); });
    if (!stream) Throw("{}: all streams of the recognition service are taken", source.description());
    LogInfo("listening to {}; Ctrl-C ends", source.description());
    Capture capture(source, *stream, options_.capture,
                    {.state = [events](InputState state) { events->Push(state); },
                     .warning = [events](std::string text) { events->Push(Warning{std::move(text)}); }});
    while (!finished_) {
      if (signals_.stop()) {
        capture.Stop();
        Write(view_.Finishing());
      }
      if (options_.form == LiveForm::kTerminal) Write(view_.Resize(TerminalWidth()));
      for (Event& event : events->Pop()) std::visit([&](auto& what) { Take(what); }, event);
    }
    capture.Stop();
    capture.Join();
    Close();
    Report(capture);
  }

 private:
  void Take(const StreamUpdate& update) {
    Write(view_.Update(update));
    finished_ = update.finished;
    error_ = update.error;
    const double behind_s = update.received_s - update.recognized_s;
    // What waits in a pipe is not behind: it is read as recognition goes on.
    if (options_.capture.max_queued_s == 0 && behind_s > kFarBehindS && !std::exchange(told_behind_, true))
      Warn(fmt::format("recognition is {:.0f} s behind; a smaller model, --precision int8 or fewer other programs help",
                       behind_s));
  }
  void Take(const InputState& state) {
    Write(view_.Input(state));
    if (state.gaps > 0 && options_.form != LiveForm::kTerminal && !std::exchange(told_gaps_, true))
      Warn(fmt::format("audio was lost at about {:.1f} s: this machine was too busy to take it in", state.captured_s));
  }
  void Take(const Warning& warning) { Warn(warning.text); }

  void Warn(const std::string& text) {
    if (const std::string bytes = view_.Note("warning: " + text); !bytes.empty()) {
      Write(bytes);
    } else {
      LogWarning("{}", text);
    }
  }

  void Write(const std::string& bytes) {
    if (bytes.empty()) return;
    if (options_.form == LiveForm::kTerminal) g_view_drawn = true;
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() || std::fflush(stdout) != 0)
      Throw("standard output cannot be written");
  }

  void Close() {
    const std::string bytes = view_.Close();
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
    g_view_drawn = false;
  }

  void Report(const Capture& capture) const {
    const InputState& state = capture.state();
    if (state.gaps > 0)
      LogWarning("{} gap{} in {:.1f} s of audio, {:.1f} s known to be lost", state.gaps, state.gaps == 1 ? "" : "s",
                 state.captured_s, state.lost_s);
    if (!error_.empty()) Throw("recognition has failed: {}", error_);
    if (!capture.error().empty()) throw Error(capture.error());
    if (!options_.capture.save.empty()) LogInfo("saved {:.1f} s as {}", state.captured_s, options_.capture.save);
  }

  const LiveSessionOptions options_;
  const Signals signals_;
  const EchoOff echo_off_;
  LiveView view_;
  bool finished_ = false, told_behind_ = false, told_gaps_ = false;
  std::string error_;
};

}  // namespace

void RunLiveSession(RecognitionService& service, LiveSource& source, const LiveSessionOptions& options) {
  LiveSession(options).Run(service, source);
}

}  // namespace earshot
