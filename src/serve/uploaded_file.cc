#include "src/serve/uploaded_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "src/base/error.h"

namespace earshot {
namespace {

// ".mp3" of "My talk.MP3"; empty where there is no such ending.
std::string CleanEnding(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || name.size() - dot > 9) return "";
  std::string ending = ".";
  for (const char c : name.substr(dot + 1)) {
    if (!std::isalnum(static_cast<unsigned char>(c))) return "";
    ending += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return ending.size() > 1 ? ending : "";
}

std::string FolderOrDefault(const std::string& folder) {
  if (!folder.empty()) return folder;
  const char* variable = std::getenv("TMPDIR");
  return variable && *variable ? variable : "/tmp";
}

}  // namespace

UploadedFile::UploadedFile(const std::string& folder, std::string_view client_name) {
  const std::string ending = CleanEnding(client_name);
  path_ = FolderOrDefault(folder) + "/earshot-XXXXXX" + ending;
  fd_ = mkostemps(path_.data(), static_cast<int>(ending.size()), O_CLOEXEC);
  if (fd_ < 0) Throw("{}: no file for an upload: {}", FolderOrDefault(folder), std::strerror(errno));
}

UploadedFile::~UploadedFile() {
  if (fd_ >= 0) close(fd_);
  unlink(path_.c_str());
}

void UploadedFile::Append(std::string_view bytes) {
  size_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Throw("{}: an upload cannot be stored: {}", path_, std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void UploadedFile::Finish() {
  if (fd_ >= 0 && close(fd_) != 0) {
    fd_ = -1;
    Throw("{}: an upload cannot be stored: {}", path_, std::strerror(errno));
  }
  fd_ = -1;
}

}  // namespace earshot
