#include "src/base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "src/base/error.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

void Sync(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags);
  if (fd < 0) Throw("{}: cannot be opened to sync: {}", path, std::strerror(errno));
  const int result = fsync(fd);
  const int reason = errno;
  close(fd);
  // Some file systems do not sync folders; that is no failure of the write.
  if (result != 0 && reason != EINVAL && reason != EROFS)
    Throw("{}: cannot be synced: {}", path, std::strerror(reason));
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, getpid())) {
  const fs::path folder = fs::path(path_).parent_path();
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  stream_.open(temporary_, std::ios::binary | std::ios::trunc);
  if (!stream_) Throw("{}: cannot be written: {}; is the folder there and writable?", path_, std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (committed_) return;
  stream_.close();
  std::error_code error;
  fs::remove(temporary_, error);
}

void AtomicFile::Commit() {
  stream_.flush();
  if (!stream_) Throw("{}: writing failed: {}; is the disk full?", path_, std::strerror(errno));
  stream_.close();
  Sync(temporary_, O_RDONLY);
  std::error_code error;
  fs::rename(temporary_, path_, error);
  if (error) Throw("{}: cannot be renamed from {}: {}", path_, temporary_, error.message());
  committed_ = true;
  const std::string folder = fs::path(path_).parent_path().string();
  Sync(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
}

void WriteFileAtomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.stream().write(content.data(), static_cast<std::streamsize>(content.size()));
  file.Commit();
}

std::string ReadFile(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) Throw("{}: is a folder, expected a file", path);
  std::ifstream file(path, std::ios::binary);
  if (!file) Throw("{}: cannot be read: {}", path, std::strerror(errno));
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace earshot
