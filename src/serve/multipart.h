// multipart/form-data (RFC 7578), parsed as it comes: a part of any size passes through without being held.
//
//   class Fields : public MultipartHandler { ... };
//   MultipartParser parser(BoundaryOf(content_type), fields);
//   parser.Append(bytes);                     // any number, as they come
//   parser.Finish();
//
// Throws Error where the body is no such form, cut off, or has too many or too large headers. Not thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace earshot {

struct MultipartHeader {
  std::string name;
  // What the client calls the file; empty: not a file. Never to be used as a path.
  std::string filename;
  bool is_file = false;
};

class MultipartHandler {
 public:
  virtual ~MultipartHandler() = default;
  virtual void OnPart(const MultipartHeader& header) = 0;
  // The bytes of the part that began last, in pieces.
  virtual void OnBytes(std::string_view bytes) = 0;
};

class MultipartParser {
 public:
  static constexpr size_t kMaxHeader = 8 * 1024;
  static constexpr int kMaxParts = 100;

  MultipartParser(const std::string& boundary, MultipartHandler& handler);

  void Append(std::string_view bytes);
  // Throws Error when the closing boundary has not come.
  void Finish() const;

 private:
  enum class State { kPreamble, kAfterBoundary, kHeaders, kBody, kEpilogue };

  // Takes in what it can of held_; false: more bytes are needed.
  bool Step();
  bool SkipPreamble();
  bool StepAfterBoundary();
  bool StepHeaders();
  bool StepBody();

  const std::string delimiter_;  // "\r\n--boundary"
  MultipartHandler& handler_;
  State state_ = State::kPreamble;
  std::string held_;
  int parts_ = 0;
};

// The boundary of a Content-Type "multipart/form-data; boundary=..."; throws Error for any other.
std::string BoundaryOf(std::string_view content_type);

}  // namespace earshot
