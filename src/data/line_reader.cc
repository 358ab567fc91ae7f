#include "src/data/line_reader.h"

#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "src/base/error.h"

namespace earshot {

// zlib reads a file that is not gzipped as it is.
struct LineReader::File {
  gzFile handle = nullptr;
  ~File() {
    if (handle != nullptr) gzclose(handle);
  }
};

LineReader::LineReader(const std::string& path) : file_(std::make_unique<File>()), path_(path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) Throw("{}: is a folder, expected a file", path);
  file_->handle = gzopen(path.c_str(), "rb");
  if (file_->handle == nullptr) Throw("{}: cannot be read: {}", path, std::strerror(errno));
}

LineReader::~LineReader() = default;

bool LineReader::Next(std::string& line) {
  line.clear();
  char part[4096];
  bool any = false;
  while (gzgets(file_->handle, part, sizeof(part)) != nullptr) {
    any = true;
    line += part;
    if (line.ends_with('\n')) break;
  }
  int code = Z_OK;
  const char* reason = gzerror(file_->handle, &code);
  // A gzip file that was cut off reads well up to the cut, and only then says Z_BUF_ERROR.
  if (code != Z_OK && code != Z_STREAM_END)
    Throw("{}: damaged after line {}: {}; was the download cut off?", path_, line_number_,
          code == Z_ERRNO ? std::strerror(errno) : reason);
  if (!any) return false;
  ++line_number_;
  if (line.ends_with('\n')) line.pop_back();
  if (line.ends_with('\r')) line.pop_back();
  if (line_number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
  return true;
}

std::string LineReader::Where() const { return fmt::format("{}:{}", path_, line_number_); }

}  // namespace earshot
