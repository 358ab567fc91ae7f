#include "src/serve/multipart.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "src/base/error.h"

namespace earshot {
namespace {

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The value of a parameter in "form-data; name=\"file\"; filename=a.wav": quoted, with backslashes, or bare.
std::optional<std::string> Parameter(std::string_view value, std::string_view wanted) {
  size_t at = value.find(';');
  while (at < value.size()) {
    ++at;
    const size_t equals = value.find_first_of("=;", at);
    if (equals == std::string_view::npos) return {};
    if (value[equals] == ';') {
      at = equals;
      continue;
    }
    const std::string name = Lower(Trim(value.substr(at, equals - at)));
    at = equals + 1;
    while (at < value.size() && (value[at] == ' ' || value[at] == '\t')) ++at;
    std::string content;
    if (at < value.size() && value[at] == '"') {
      for (++at; at < value.size() && value[at] != '"'; ++at) {
        // Browsers write a quote as %22 and leave backslashes alone: only \" and \\ are escapes.
        if (value[at] == '\\' && at + 1 < value.size() && (value[at + 1] == '"' || value[at + 1] == '\\')) ++at;
        content += value[at];
      }
      at = value.find(';', std::min(at + 1, value.size()));
    } else {
      const size_t end = std::min(value.find(';', at), value.size());
      content = std::string(Trim(value.substr(at, end - at)));
      at = end;
    }
    if (name == wanted) return content;
  }
  return {};
}

MultipartHeader ParseHeader(std::string_view block) {
  MultipartHeader header;
  bool named = false;
  while (!block.empty()) {
    const size_t end = std::min(block.find("\r\n"), block.size());
    const std::string_view line = block.substr(0, end);
    block.remove_prefix(std::min(end + 2, block.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) Throw("form: a part's header without a colon");
    if (Lower(Trim(line.substr(0, colon))) != "content-disposition") continue;
    const std::string_view value = line.substr(colon + 1);
    const std::optional<std::string> name = Parameter(value, "name");
    if (!name) Throw("form: a part without a name");
    header.name = *name;
    named = true;
    std::optional<std::string> filename = Parameter(value, "filename");
    if (!filename) filename = Parameter(value, "filename*");
    header.is_file = filename.has_value();
    header.filename = filename.value_or("");
  }
  if (!named) Throw("form: a part without Content-Disposition");
  return header;
}

}  // namespace

MultipartParser::MultipartParser(const std::string& boundary, MultipartHandler& handler)
    : delimiter_("\r\n--" + boundary), handler_(handler) {
  // The first boundary may stand at the very beginning, with no line end before it.
  held_ = "\r\n";
}

void MultipartParser::Append(std::string_view bytes) {
  if (state_ == State::kEpilogue) return;
  held_ += bytes;
  while (Step()) {
  }
}

bool MultipartParser::Step() {
  switch (state_) {
    case State::kPreamble: return SkipPreamble();
    case State::kAfterBoundary: return StepAfterBoundary();
    case State::kHeaders: return StepHeaders();
    case State::kBody: return StepBody();
    case State::kEpilogue: held_.clear(); return false;
  }
  return false;
}

bool MultipartParser::SkipPreamble() {
  const size_t at = held_.find(delimiter_);
  if (at == std::string::npos) {
    if (held_.size() > kMaxHeader) Throw("form: no boundary in the first {} bytes", kMaxHeader);
    return false;
  }
  held_.erase(0, at + delimiter_.size());
  state_ = State::kAfterBoundary;
  return true;
}

// "--" closes the form; blanks may stand before the line's end.
bool MultipartParser::StepAfterBoundary() {
  if (held_.size() < 2) return false;
  if (held_.starts_with("--")) {
    state_ = State::kEpilogue;
    return true;
  }
  const size_t end = held_.find_first_not_of(" \t");
  if (end > 256 && end != std::string::npos) Throw("form: a boundary's line does not end");
  if (end == std::string::npos || held_.size() < end + 2) {
    if (held_.size() > 256) Throw("form: a boundary's line does not end");
    return false;
  }
  if (held_.compare(end, 2, "\r\n") != 0) Throw("form: a boundary is not followed by a line end");
  if (++parts_ > kMaxParts) Throw("form: more than {} parts", kMaxParts);
  // The line end stays: where a part has no headers, an empty line is next.
  held_.erase(0, end);
  state_ = State::kHeaders;
  return true;
}

bool MultipartParser::StepHeaders() {
  const size_t end = held_.find("\r\n\r\n");
  if (end == std::string::npos ? held_.size() > kMaxHeader : end > kMaxHeader)
    Throw("form: a part's headers have more than {} bytes", kMaxHeader);
  if (end == std::string::npos) return false;
  handler_.OnPart(ParseHeader(end < 2 ? std::string_view() : std::string_view(held_).substr(2, end - 2)));
  held_.erase(0, end + 4);
  state_ = State::kBody;
  return true;
}

// RFC 2046: the line end before a boundary belongs to the boundary. An empty part still has it.
bool MultipartParser::StepBody() {
  const size_t at = held_.find(delimiter_);
  // What may be the beginning of a delimiter stays until more has come.
  const size_t passed = at != std::string::npos            ? at
                        : held_.size() < delimiter_.size() ? 0
                                                           : held_.size() - delimiter_.size() + 1;
  if (passed > 0) handler_.OnBytes(std::string_view(held_).substr(0, passed));
  if (at == std::string::npos) {
    held_.erase(0, passed);
    return false;
  }
  held_.erase(0, at + delimiter_.size());
  state_ = State::kAfterBoundary;
  return true;
}

void MultipartParser::Finish() const {
  if (state_ != State::kEpilogue) Throw("form: it ends before its closing boundary");
}

std::string BoundaryOf(std::string_view content_type) {
  const std::string type = Lower(Trim(content_type.substr(0, content_type.find(';'))));
  if (type != "multipart/form-data")
    Throw("Content-Type '{}', expected multipart/form-data", type.empty() ? std::string("none") : type);
  const std::optional<std::string> boundary = Parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > 200)
    Throw("Content-Type multipart/form-data without a boundary of 1 to 200 characters");
  return *boundary;
}

}  // namespace earshot
