#include "src/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "src/base/error.h"
#include "src/base/progress_bar.h"

namespace earshot {
namespace {

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>("earshot", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%^%l%$: %v");
    made->flush_on(spdlog::level::warn);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::info;
}

}  // namespace

void SetLogLevel(const std::string& name) {
  const LogLevel levels[] = {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError, LogLevel::kOff};
  const char* names[] = {"debug", "info", "warning", "error", "off"};
  for (size_t i = 0; i < std::size(levels); ++i) {
    if (name == names[i]) return Logger().set_level(ToSpdlog(levels[i]));
  }
  Throw("log level '{}': expected debug, info, warning, error or off", name);
}

void SetLogFile(const std::string& path) {
  Logger().sinks().resize(1);
  if (path.empty()) return;
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    sink->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
    Logger().sinks().push_back(std::move(sink));
    Logger().flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& e) {
    Throw("{}: cannot write the log: {}", path, e.what());
  }
}

void LogLine(LogLevel level, const std::string& line) {
  ProgressBar::Clear();
  Logger().log(ToSpdlog(level), line);
}

}  // namespace earshot
