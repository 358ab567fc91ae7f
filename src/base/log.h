// The log: one line an event, on stderr, so that stdout stays for results.
//
//   LogInfo("epoch {}: loss {:.3f}", epoch, loss);
//   SetLogLevel("warning");  // debug, info, warning, error, off
//
// Thread-safe. A progress bar and the log share the terminal: see progress_bar.h.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace earshot {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// Throws Error when the name is unknown.
void SetLogLevel(const std::string& name);

// Also writes every line to this file (appended), with dates. Empty: no file.
void SetLogFile(const std::string& path);

void LogLine(LogLevel level, const std::string& line);

template <class... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  LogLine(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  LogLine(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  LogLine(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace earshot
