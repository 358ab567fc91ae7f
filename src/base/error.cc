#include "src/base/error.h"

namespace earshot::internal {

void CheckFailed(const char* file, int line, const char* condition, const std::string& what) {
  throw LogicError(fmt::format("{}:{}: check failed: {}: {}", file, line, condition, what));
}

}  // namespace earshot::internal
