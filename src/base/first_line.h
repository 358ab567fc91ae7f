// The first line of what an exception says: c10::Error, for one, puts a stack trace below it.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace earshot {

inline std::string FirstLine(const std::exception& e) {
  const std::string_view what = e.what();
  return std::string(what.substr(0, what.find('\n')));
}

}  // namespace earshot
