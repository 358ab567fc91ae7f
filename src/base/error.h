// Errors: bad input throws earshot::Error with one clear line; a programmer's mistake throws too.
//
//   if (rate <= 0) Throw("{}: sample rate {} Hz, expected more than 0; is the header damaged?", path, rate);
//   EARSHOT_CHECK(frames.size() == lens.size(), "{} frames, {} lens", frames.size(), lens.size());
//
// A message says where, what was found, what was expected, and what to do. main() prints it and
// exits with 1; nothing below tools/ ends the process.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace earshot {

// Bad input, file, configuration or environment.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void Throw(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// A mistake in the program itself; never reached by what a file or the network says.
class LogicError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& what);
}

}  // namespace earshot

#define EARSHOT_CHECK(condition, ...)                                                             \
  do {                                                                                            \
    if (!(condition)) [[unlikely]]                                                                \
      ::earshot::internal::CheckFailed(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__)); \
  } while (false)
